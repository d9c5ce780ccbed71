"""The code of docs/inference.md runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from mtl_plugins.cli import export, infer
from mtl_plugins.models import InferenceSettings

from .inference_cases import photos, tiny, write

__all__ = ['photos', 'tiny']  # fixtures
TEXT = (Path(__file__).parents[2] / 'docs' / 'inference.md').read_text()


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```', TEXT, flags=re.MULTILINE | re.DOTALL)


def test_the_python_blocks_run_one_after_the_other(tiny, photos, tmp_path, monkeypatch):
    pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    for source, name in zip(tiny, ('config.py', 'checkpoint.pth')):
        shutil.copy(source, name)
    write(tmp_path / 'folder', photos)
    shutil.copy('folder/chelsea.png', 'photo.jpg')
    assert export.main(['config.py', 'checkpoint.pth', '--out', 'model.onnx']) == 0
    names = {}
    for block in blocks('python'):
        exec(block, names)
    assert names['panel'].shape[2] == 3
    assert Path('out/predictions.json').is_file()
    assert InferenceSettings.from_cfg(names['model']['test_cfg']).flip_tta
    assert set(names['prediction']) == set(names['inferencer'].tasks)


def test_the_commands_are_understood():
    lines = [line for block in blocks('bash') for line in block.splitlines() if line.startswith('python tools/')]
    assert len(lines) == 7
    for line in lines:
        tool, *arguments = shlex.split(line)[1:]
        parser = {'tools/infer.py': infer, 'tools/export.py': export}[tool].build_parser()
        assert parser.parse_args(arguments).out
