"""Really runs the code blocks of a page, one after the other, with tiny settings."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mtl_plugins import __main__ as command_line
from mtl_plugins.config import loading as configs
from mtl_plugins.config.datasets import LOADERS, leaf_datasets
from mtl_plugins.registry import DATASETS
from tests.support.tiny import BACKBONES, DATA

from .commands import main_of
from .config_types import problem_of, walk, written_in
from .pages import PYTHON, ROOT, SHELL, Block, shell_lines

BASES = {'[...]': "['../../configs/rooms/gd_vit-micro_8b-2k_rooms-96.py']"}
"""What stands for bases that a page leaves out."""
STAND_INS = {'CONFIG': 'config.py', 'CHECKPOINT': 'checkpoint.pth', 'FOLDER': 'folder'}
OUR_TOOL = re.compile(r'^(?:tools|projects)/.*\.py$')


class Page:
    """The running code of one page.

    Args:
        folder: Where it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {'__name__': 'page'}

    def run(self, block: Block) -> None:
        """Run or check a block, as its language and its mark say.

        Raises:
            AssertionError: If a type, an argument or a file is not there.
        """
        if block.language in SHELL:
            for line in shell_lines(block.code) if block.mark == 'run' else ():
                run_command(line)
        elif block.language in PYTHON:
            self._run_python(block)

    def _run_python(self, block: Block) -> None:
        code = compile(block.code, block.where, 'exec')
        if block.mark.startswith('file '):
            (self.folder / block.mark.removeprefix('file ')).write_text(block.code)
            return
        if block.mark.startswith('part of '):
            path = ROOT / block.mark.removeprefix('part of ')
            assert block.code.strip() in path.read_text(), f'{block.where}: not a part of {path}'
            if path.suffix == '.py' and path.is_relative_to(ROOT / 'projects') and '-' not in path.stem:
                name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
                self.names.update(vars(importlib.import_module(name)))
            return
        if re.match(r'(?:#.*\n)*_base_ = ', block.code):
            check_config(block.code, self.folder)
            return
        if not block.mark.startswith('not run'):
            exec(code, self.names)
        for cfg in written_in(block.code):
            problem = problem_of(cfg)
            assert problem is None, f'{block.where}: {problem}'


def check_config(code: str, folder: Path) -> None:
    """Load a config with its bases, and look every type and its arguments up."""
    for short, bases in BASES.items():
        code = code.replace(f'_base_ = {short}', f'_base_ = {bases}')
    # Beside the shipped ones, in a copy of their folder, so that relative bases are found.
    place = folder / 'configs' / 'rooms'
    if not place.exists():
        shutil.copytree(ROOT / 'configs', folder / 'configs')
        shutil.copytree(ROOT / 'projects', folder / 'projects')
    code = code.replace("'../../configs/", "'../")
    path = place / f'page_{uuid.uuid4().hex[:8]}.py'
    path.write_text(code)
    for cfg in walk(Config.fromfile(path).to_dict()):
        problem = problem_of(cfg)
        assert problem is None, f'{problem}, in\n{code}'


def run_command(line: str) -> None:
    """Run a command of ours in this process, with tiny settings.

    Raises:
        AssertionError: If it fails.
    """
    words = [STAND_INS.get(word, word) for word in shlex.split(line)]
    if words[0] in ('export', 'cd', 'make', 'pip'):
        return
    assert words[0] == 'python', f'only commands of ours can be run: {line}'
    words = [_in_the_repository(word) for word in words]
    main = main_of(Path(words[1])) if words[1] != '-m' else lambda argv: command_line.run(words[3], argv)
    arguments = words[2:] if words[1] != '-m' else words[4:]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.syspath_prepend(str(Path.cwd()))  # as `python -m` does
        patch.setattr(configs.Config, 'fromfile', _small_config)
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
    assert not code, f'exit code {code}: {line}'


def _in_the_repository(word: str) -> str:
    word = re.sub(r'iter_\d+\.pth', 'iter_2.pth', word)
    return str(ROOT / word) if re.match(r'^(?:tools|projects|configs)/\S+\.py$', word) else word


_fromfile = Config.fromfile


def _small_config(path: str, *args: Any, **kwargs: Any) -> Config:
    return make_small(_fromfile(path, *args, **kwargs))


def make_small(cfg: Config) -> Config:
    """Settings under which any config of the documents trains within seconds."""
    if 'train_cfg' not in cfg:
        return cfg
    loops = dict(max_epochs=1) if cfg.train_cfg.get('max_epochs') else dict(max_iters=2, val_interval=2)
    cfg.train_cfg.update(loops)
    for name in LOADERS:
        if cfg.get(name):
            cfg[name].update(batch_size=2, num_workers=0, persistent_workers=False)
    for _, dataset in leaf_datasets(cfg):
        if dataset.type in DATA:
            dataset.update(DATA[dataset.type])
        elif issubclass(DATASETS.get(dataset.type), BaseDataset):
            dataset.indices = 4
    backbone = cfg.get('model', {}).get('backbone')
    if backbone and backbone.type in BACKBONES:
        backbone.update(BACKBONES[backbone.type])
    for hook in cfg.get('custom_hooks', ()):
        if hook.type == 'mtl_plugins.PredictionPanelHook':
            hook.num_panels = 1
    cfg.experiment_name = uuid.uuid4().hex
    return cfg


def run_page(blocks: Sequence[Block], folder: Path) -> None:
    """Run the blocks of a page."""
    page = Page(folder)
    for block in blocks:
        page.run(block)
