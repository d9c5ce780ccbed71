"""The published setting on a stand-in of each layout, from the command line: export, verify, train, test."""

import json

import pytest

from tests.support.tiny import ROOT, run_tool

LAYOUTS = {
    'nyud-atrc': ('nyud', 'nyud-448x576', ['--packaging', 'atrc']),
    'nyud-mtlp': ('nyud', 'nyud-448x576', ['--packaging', 'mtlp']),
    'nyud-astmt': ('nyud', 'nyud-448x576', ['--packaging', 'astmt']),
    'pascal_context': ('pascal_context', 'pascal-context-512x512', []),
    'taskonomy': ('taskonomy', 'taskonomy-256x256', []),
}
ITERATIONS = 50
SMALL_BATCH = [
    'model.backbone.pretrained=False',
    'train_dataloader.batch_size=1',
    'train_dataloader.num_workers=1',
    'val_dataloader.batch_size=1',
    'val_dataloader.num_workers=1',
    'test_dataloader.batch_size=1',
    'test_dataloader.num_workers=1',
    f'train_cfg.max_iters={ITERATIONS}',
    f'train_cfg.val_interval={ITERATIONS}',
]


@pytest.fixture(scope='module', params=LAYOUTS)
def layout(request, tmp_path_factory):
    dataset, stem, options = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    done = run_tool('datasets/export_rooms.py', dataset, folder / 'data', *options, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return dataset, stem, folder


@pytest.mark.slow
def test_verify_says_clean(layout):
    dataset, _, folder = layout
    done = run_tool('datasets/verify.py', dataset, folder / 'data', cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'clean' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize('method', ['gd', 'stgu'])
def test_trains_and_evaluates(method, layout):
    dataset, stem, folder = layout
    config = ROOT / 'configs' / dataset / f'{method}_vit-tiny_1xb8-40k_{stem}.py'
    data = ['--data-root', folder / 'data', '--cfg-options', *SMALL_BATCH]
    done = run_tool('train.py', config, '--work-dir', folder / method, *data, cwd=folder, timeout=2400)
    assert done.returncode == 0, done.stderr[-3000:]
    (entry,) = json.loads((folder / method / 'metrics.json').read_text())
    assert entry['iter'] == ITERATIONS
    checkpoint = folder / method / f'iter_{ITERATIONS}.pth'
    out = folder / 'metrics.json'
    done = run_tool(
        'test.py', config, checkpoint, '--work-dir', folder / 'test', '--out', out, *data, cwd=folder, timeout=1200
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    tested = json.loads(out.read_text())
    assert set(tested) >= set(entry['metrics'])
