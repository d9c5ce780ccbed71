"""``python -m mtl_plugins`` and the files in ``tools/``."""

import ast
import contextlib
import functools
import logging
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import LOOPS
from rich.console import Console

from mtl_plugins.__main__ import COMMANDS, run
from mtl_plugins.cli.streams import forgiving_streams
from mtl_plugins.cli.user_errors import explain
from mtl_plugins.config.refusals import refusals_of
from mtl_plugins.errors import UserError, UserFileNotFoundError, UserKeyError, UserTypeError, refusing
from mtl_plugins.methods.naming import near_matches
from tests.support.tiny import ROOMS, ROOT, options

HEAVY = ['torch', 'torchvision', 'timm', 'numpy', 'scipy', 'sklearn', 'skimage', 'cv2', 'PIL', 'matplotlib', 'pandas']
HEAVY += ['jinja2', 'rich', 'joblib', 'mmengine', 'mmcv', 'mmseg']


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run(name, ['--help'])
    assert stop.value.code == 0
    assert 'usage: ' in capsys.readouterr().out


def test_help_and_wrong_options_import_nothing_heavy():
    """One process for all: what one command imports would stand there for the next."""
    light = sorted(path for path in (ROOT / 'tools').rglob('*.py') if path.parent.name != 'exporters')
    light.remove(ROOT / 'tools' / 'datasets' / 'export_rooms.py')  # its help lists what the layouts know
    code = f"""
        import contextlib, io, runpy, sys, warnings
        from mtl_plugins.__main__ import COMMANDS, run
        import mtl_plugins.methods

        def told(what, call, *arguments, **options):
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    call(*arguments, **options)
            except SystemExit:
                pass
            found = [name for name in {HEAVY!r} if name in sys.modules]
            assert not found, f'{{what}} imports {{found}}'

        for command in COMMANDS:
            told(command + ' --help', run, command, ['--help'])
            told(command + ' --nope', run, command, ['--nope'])
        for path in {[str(path) for path in light]!r}:
            sys.argv[:] = [path, '--help']
            told(path, runpy.run_path, path, run_name='__main__')
        print('done')
    """
    result = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert result.stdout == 'done\n', result.stderr


def test_every_tool_of_a_command_names_one_that_exists():
    named = {}
    for path in sorted((ROOT / 'tools').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'run':
                named[path.name] = node.args[0].value
    assert set(named.values()) <= set(COMMANDS)
    assert {'train.py', 'test.py', 'infer.py', 'export.py', 'doctor.py', 'browse.py'} <= set(named)


GD = str(ROOT / 'configs' / 'rooms' / 'gd_vit-micro_8b-2k_rooms-96.py')


@pytest.mark.parametrize(
    ('command', 'arguments', 'said'),
    [
        ('train', ['nope.py'], 'config nope.py not found'),
        ('train', [GD, '--method', 'cagard'], "unknown method 'cagard': did you mean 'cagrad'"),
        ('train', [GD, '--tasks', 'dept'], "no head for 'dept': did you mean 'depth'"),
        ('train', [GD, '--precision', 'bf16', '--log-to', 'nowhere'], '--log-to takes'),
        ('test', [GD, 'nope.pth'], 'checkpoint nope.pth not found'),
        ('infer', [GD, 'nope.pth', 'photo.jpg', '--out', 'out'], 'no checkpoint at nope.pth'),
    ],
)
def test_what_the_user_can_mend_is_one_line(command, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = run(command, arguments)
    message = capsys.readouterr().err
    assert code == 1
    assert message.startswith(f'{command}: error: ')
    assert said in message
    assert 'Traceback' not in message


def test_a_missing_folder_of_data_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    config = str(ROOT / 'configs' / 'photos' / 'stgu_vit-micro_8b-1k_photos-96.py')
    assert run('train', [config, '--data-root', 'empty']) == 1
    assert 'no photographs in' in capsys.readouterr().err


def test_a_wrong_setting_comes_with_what_to_do():
    cfg = Config(dict(train_cfg=dict(type='IterBasedTrainLoop', runner=None, dataloader=None, max_iter=3)))

    def build(_):
        with refusals_of(cfg):
            LOOPS.build(cfg.train_cfg)

    message = explain(_caught(build))
    assert 'IterBasedTrainLoop' in message
    assert "did you mean 'max_iters'" in message


class _Base:
    def __init__(self, needed):
        self.needed = needed + 1


class _Part(_Base):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    ('entries', 'refused'), [({}, True), (dict(needed=1, other=2), True), (dict(needed='x'), False)]
)
def test_what_a_base_class_of_the_model_refuses_is_told_from_what_fails_inside(entries, refused):
    cfg = Config(dict(model=dict(type=_Part, **entries)))

    def build(_):
        with refusals_of(cfg):
            LOOPS.build(cfg.model)

    assert isinstance(_caught(build), UserError) == refused


def _raise_value_error(*args, **kwargs):
    raise ValueError('no matrix')


@pytest.mark.parametrize(
    'place',
    ['mtl_plugins.methods.weighting.EqualWeighting.weights', 'mtl_plugins.engine.step.batch.StepBatch.backward',
     'mtl_plugins.cli.train.build_runner', 'mtl_plugins.models.MultiTaskSegmentor.loss'],
)  # fmt: skip
def test_a_value_error_inside_is_a_bug_and_keeps_its_traceback(place, tmp_path, monkeypatch):
    monkeypatch.setattr(place, _raise_value_error)
    with pytest.raises(ValueError, match='no matrix') as caught:
        run('train', [GD, '--work-dir', str(tmp_path / 'run'), *options(1)])
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    'error',
    [
        TypeError("IterBasedTrainLoop.__init__() got an unexpected keyword argument 'max_iter'"),
        KeyError('IterBasedTrainLoop is not in the mmengine::loop registry'),
        AttributeError('internal'),
        FileNotFoundError('internal'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_line_of_ours_raises_is_a_bug_whatever_its_text(error):
    cfg = Config(dict(train_cfg=dict(type='IterBasedTrainLoop', max_iter=3)))
    ours = {'__name__': 'mtl_plugins.engine.step.batch', 'error': error}
    exec('def step():\n    raise error', ours)

    def train(_):
        with refusals_of(cfg):
            ours['step']()

    caught = _caught(train)
    assert caught is error
    assert explain(caught) is None


def test_what_the_operating_system_refuses_needs_no_traceback(tmp_path):
    assert 'No such file' in explain(_caught(lambda _: (tmp_path / 'gone').read_text()))
    assert 'directory' in explain(_caught(lambda _: tmp_path.read_text()))


def test_a_traceback_can_be_had_back(monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_TRACEBACK', '1')
    with pytest.raises(FileNotFoundError, match=r'config nope\.py not found'):
        run('train', ['nope.py'])


@pytest.mark.parametrize('name', ['list', 'assert', 'foreign'])
def test_bugs_keep_their_traceback(name, monkeypatch):
    bugs = {'list': lambda argv: [][1], 'assert': _assertion, 'foreign': lambda argv: torch.ones(2) @ torch.ones(3)}
    monkeypatch.setattr('mtl_plugins.cli.train.main', bugs[name])
    with pytest.raises((IndexError, AssertionError, RuntimeError)):
        run('train', [])


def test_an_error_python_raises_in_a_module_of_ours_is_a_bug():
    error = _caught(near_matches, 1, None)
    assert isinstance(error, TypeError)
    assert explain(error) is None


def test_a_loss_that_a_method_cannot_take_is_one_line(tmp_path, monkeypatch, capsys):
    def losses(self, *args, **kwargs):
        return {f'{task}.loss': -1 * sum(p.sum() ** 2 for p in self.parameters()) for task in self.tasks}

    monkeypatch.setattr('mtl_plugins.models.MultiTaskSegmentor.loss', losses)
    assert run('train', [GD, '--work-dir', str(tmp_path / 'run'), '--method', 'gls', *options(1)]) == 1
    assert 'train: error: GLS needs losses >= 0, but the loss of' in capsys.readouterr().err


def test_what_comes_out_of_a_worker_process_is_its_sentence_alone():
    from torch._utils import ExceptionWrapper

    try:
        raise UserKeyError('photo.png: no label', advice='draw one')
    except UserKeyError:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')
    assert explain(_caught(lambda _: wrapped.reraise())) == 'photo.png: no label'


def test_the_family_is_of_pythons_classes_too():
    for own, kind in [(UserTypeError, TypeError), (UserKeyError, KeyError), (UserFileNotFoundError, FileNotFoundError)]:
        error = own("it's this", advice='mend it')
        assert isinstance(error, kind)
        assert isinstance(error, UserError)
        assert explain(error) == "it's this\nmend it"
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), copied.advice) == (str(error), 'mend it')


@pytest.mark.parametrize('kind', [ValueError, TypeError, KeyError])
def test_what_pure_code_refuses_becomes_the_users(kind):
    def build(_):
        with refusing('weighting'):
            raise kind('too large')

    error = _caught(build)
    assert isinstance(error, UserError)
    assert isinstance(error, kind)
    assert explain(error) == 'weighting: too large'


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr('mtl_plugins.cli.train.main', interrupted)
    assert run('train', []) == 130
    assert capsys.readouterr().err.strip() == 'train: interrupted'


@pytest.mark.parametrize(
    ('command', 'line', 'said'),
    [
        ('test', 'c.py x.pth --num-panels 3', '--num-panels is without effect where there is no --show-dir'),
        ('compare', 'c.py --methods gd --tune-on=0.2', '--tune-on is without effect where there is no --tune'),
    ],
)
def test_options_of_which_nothing_would_come(command, line, said, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, line.split())
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_output_that_nobody_reads_to_its_end_is_no_error():
    command = [sys.executable, '-u', '-m', 'mtl_plugins', 'train', '--list-methods']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert process.stderr.read() == b''
        assert process.wait() == 0


@pytest.fixture
def unread(monkeypatch):
    """Both streams are pipes whose reader has gone."""
    with contextlib.ExitStack() as streams:
        for name in ('stdout', 'stderr'):
            reader, writer = os.pipe()
            os.close(reader)
            monkeypatch.setattr(sys, name, streams.enter_context(os.fdopen(writer, 'w')))
        yield


def _log(text):
    handler = logging.StreamHandler(sys.stdout)
    handler.handleError = lambda _record: pytest.fail('it was not written')
    handler.emit(logging.makeLogRecord(dict(msg=text)))


WAYS = {
    'print': print,
    'flushed': functools.partial(print, flush=True),
    'written': lambda text: sys.stdout.write(text),
    'rich': lambda text: Console().print(text),
    'log': _log,
    'error': lambda text: print(text, file=sys.stderr),
    'bytes': lambda text: sys.stdout.buffer.write(text.encode()),
}


@pytest.mark.parametrize('say', WAYS.values(), ids=WAYS)
def test_the_work_goes_on_when_nobody_reads_any_more(say, unread):
    before, done = sys.stdout, []
    with forgiving_streams():
        for _ in range(3):
            say('a line\n' * 2000)
        done.append(1)
    assert done == [1]
    assert sys.stdout is before


@pytest.mark.parametrize(
    ('command', 'words', 'written'),
    [('cost', ['--out', 'costs'], 'costs/model_cost.png'), ('config', ['--save', 'saved.py'], 'saved.py')],
)
def test_what_a_command_writes_is_written_when_nobody_reads(command, words, written, unread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(command, [ROOMS, *words]) == 0
    assert (tmp_path / written).is_file()


@pytest.mark.parametrize('closed', ['<&-', '>&-', '2>&-', '<&- >&- 2>&-'])
def test_no_file_gets_the_number_of_a_closed_stream(closed, tmp_path):
    code = f"""
from mtl_plugins.cli.streams import forgiving_streams
with forgiving_streams(), open({str(tmp_path / 'number')!r}, 'w') as file:
    file.write(str(file.fileno()))
"""
    subprocess.run(['sh', '-c', f'exec "$0" -c "$1" {closed}', sys.executable, code], cwd=ROOT, check=True)
    assert int((tmp_path / 'number').read_text()) > 2


def test_output_that_finds_no_room_is_an_error(monkeypatch, capsys):
    if not os.path.exists('/dev/full'):
        pytest.skip('no such device')
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        assert run('train', ['--list-methods']) == 1
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert 'train: error: [Errno 28] No space left on device' in capsys.readouterr().err


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
@pytest.mark.parametrize('say', [way for name, way in WAYS.items() if name != 'bytes'])
def test_what_a_locale_cannot_show_is_no_error(say, encoding, tmp_path, monkeypatch):
    texts = 'mIoU \N{UPWARDS ARROW} \u2079', 'a file named \udce9 in Latin-1'
    with (tmp_path / 'log').open('w', encoding=encoding) as stream:
        monkeypatch.setattr(sys, 'stdout', stream)
        monkeypatch.setattr(sys, 'stderr', stream)
        with forgiving_streams():
            for text in texts:
                say(text)
    text = (tmp_path / 'log').read_text(encoding=encoding)
    assert 'mIoU' in text
    assert ('\N{UPWARDS ARROW}' in text) is (encoding == 'utf-8')


def test_streams_that_are_none_or_no_files_stay(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'stderr', None)
    captured = sys.stdout
    with forgiving_streams():
        assert sys.stdout is captured
        assert sys.stderr is None


def _assertion(argv):
    raise AssertionError('never so')


def _caught(function, *args):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function(*(args or (None,)))
    return caught.value
