"""docs/existing_models.md: its configs load and train, its code runs, its commands name what exists."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper

from mtl_plugins.config import load_config
from mtl_plugins.engine.catalogue import get_method
from mtl_plugins.registry import HOOKS

from .parts import build, train
from .tiny import NOISE, ROOT

pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]
TEXT = (ROOT / 'docs' / 'existing_models.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
CONFIGS = [block for block in BLOCKS if block.startswith('_base_')]
COUNTERS = next(block for block in BLOCKS if 'num_valid=' in block)


@pytest.mark.parametrize('number', range(len(CONFIGS)))
def test_configs_train(number, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(CONFIGS[number])
    cfg = load_config(path)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)

    def as_written(model):
        model.decode_head.loss_decode = cfg.model.decode_head.loss_decode

    wrapper = {name: value for name, value in cfg.optim_wrapper.items() if name != 'optimizer'}
    model, wrapper, batches = build('fcn', change=as_written, **wrapper)
    train(model, wrapper, batches)
    assert wrapper.task_names == (('pixels', 'regions') if 'tasks' in CONFIGS[number] else ('decode', 'aux'))


def test_the_code_runs():
    names = {}
    for block in BLOCKS:
        if block not in [*CONFIGS, COUNTERS]:
            exec(block, names)
    assert names['optim_wrapper'].task_names == ('shape', 'size')
    assert names['log']['loss'] > 0


class Counts(BaseModel):
    """Writes a loss of zero for a task without labels, and how many labels there are."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Linear(2, 2)
        self.heads = torch.nn.ModuleDict({task: torch.nn.Linear(2, 1) for task in ('wear', 'age')})

    def forward(self, inputs, counts, mode='tensor'):
        features = self.shared(inputs)
        wear, age = (head(features).square().mean() * float(n > 0) for head, n in zip(self.heads.values(), counts))
        return dict(wear_loss=wear, age_loss=age, wear_count=counts[0], adult_count=counts[1], child_count=0)


def test_counters_of_other_models():
    names = {}
    exec(COUNTERS, names)
    model = Counts()
    wrapper = build_optim_wrapper(model, names['optim_wrapper'])
    for counts, moves in (((3, 2), True), ((0, 2), False)):
        before = model.heads['wear'].weight.clone()
        model.train_step(dict(inputs=torch.ones(4, 2), counts=counts), wrapper)
        assert torch.equal(before, model.heads['wear'].weight) is not moves


def test_commands_name_what_exists():
    for path in re.findall(r'(?:configs|projects|tools)/[\w./-]*[\w/]', TEXT):
        assert (ROOT / path).exists(), path
    for key in re.findall(r'--method (\w+)', TEXT):
        get_method(key)
    for hook in re.findall(r'`mtl_plugins\.(\w+Hook)`', TEXT):
        assert HOOKS.get(f'mtl_plugins.{hook}') is not None
    assert Config.fromfile(ROOT / 'configs/mmseg/segformer_mit-b0_1xb8-2k_rooms-96x96.py').model.auxiliary_head
