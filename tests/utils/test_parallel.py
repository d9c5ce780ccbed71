"""Work on several processes."""

from pathlib import Path

from mtl_plugins.utils.parallel import in_processes


def test_paths_are_those_of_the_present_folder(tmp_path, monkeypatch):
    """Whatever the folder was when the processes, which wait for more work, were started."""
    for name in ('first', 'second'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'note.txt').write_text(name)
        monkeypatch.chdir(tmp_path / name)
        found = in_processes(Path.read_text, [Path('note.txt')] * 4, 2, RuntimeError('a process died'))
        assert list(found) == [name] * 4
