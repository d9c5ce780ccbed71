"""The tools on partial labels, on several datasets, and on checkpoints of other tasks."""

import json
import re

import pytest
import torch

from mtl_plugins.cli import doctor, test, train
from mtl_plugins.config import load_config
from mtl_plugins.config.datasets import broken_cover, leaf_datasets
from mtl_plugins.runtime.checkpoints import CheckpointMismatchError
from tests.support.tiny import LOADERS, ROOMS, ROOT, options, run_tool, shrink

BOTH = str(ROOT / 'configs/rooms/gd_vit-micro_8b-2k_rooms-photos-96.py')
PARTIAL = str(ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96-partial.py')
ELEVEN = str(ROOT / 'configs/rooms/stgu_vit-micro_8b-2k_rooms-96-11t.py')
ROOM_TASKS = ['semseg', 'depth', 'normals', 'edge', 'sal']
PHOTO_TASKS = ['edge_texture', 'keypoints2d', 'segment_unsup2d']


def small(*more):
    """Options that make the config of two datasets tiny."""
    of_rooms = [option for option in options() if '.dataset.' not in option]
    numbers = {'0.num_images': 6, '1.crops_per_image': 1}
    return [
        *of_rooms,
        *(f'{loader}.dataset.datasets.{key}={n}' for loader in LOADERS for key, n in numbers.items()),
        *more,
    ]


def state(path):
    return torch.load(path, weights_only=True)


def log_of(folder):
    return next(folder.glob('*/*.log')).read_text()


@pytest.fixture(scope='module')
def joint(tmp_path_factory):
    """A run of two iterations on two datasets."""
    folder = tmp_path_factory.mktemp('joint')
    assert train.main([BOTH, '--work-dir', str(folder), *small()]) == 0
    return folder


def evaluate(folder, out, *arguments):
    """All metrics of the checkpoint."""
    checkpoint = str(folder / 'iter_2.pth')
    assert test.main([BOTH, checkpoint, '--work-dir', str(out), '--out', str(out / 'out.json'), *arguments]) == 0
    return json.loads((out / 'out.json').read_text())


def test_each_task_is_measured_on_the_samples_that_have_it(joint, tmp_path):
    together = evaluate(joint, tmp_path, *small())
    assert {name.split('/')[0] for name in together} == {*ROOM_TASKS, *PHOTO_TASKS}
    alone = {}
    for tasks, number in ((ROOM_TASKS, '0.num_images=6'), (PHOTO_TASKS, '0.crops_per_image=1')):
        # One dataset is left out now, so its options would go to the other.
        kept = [option for option in small() if '.datasets.' not in option]
        sizes = [f'{loader}.dataset.datasets.{number}' for loader in LOADERS]
        alone.update(evaluate(joint, tmp_path, '--tasks', ','.join(tasks), *kept, *sizes))
    assert alone == pytest.approx(together, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize(('path', 'workers'), [pytest.param(BOTH, 0, marks=pytest.mark.slow), (PARTIAL, 2)])
def test_resumed_runs_equal_uninterrupted_ones(path, workers, tmp_path):
    weights = {}
    for name, stops in (('whole', (6,)), ('parts', (3, 6))):
        for stop in stops:
            cfg = shrink(load_config(path, work_dir=str(tmp_path / name)), stop)
            # The schedule and the stream must not depend on where the run stops.
            cfg.param_scheduler = []
            cfg.train_dataloader.num_workers = workers if stop == 6 else 0
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
            cfg.default_hooks.checkpoint.interval = 3
            for _, dataset in leaf_datasets(cfg):
                if 'num_images' in dataset:
                    dataset.num_images = 7
            if stop == 6 and name == 'parts':
                cfg.resume, cfg.load_from = True, str(tmp_path / 'parts' / 'iter_3.pth')
            train.build_runner(cfg).train()
        weights[name] = state(tmp_path / name / 'iter_6.pth')['state_dict']
    assert all(torch.equal(value, weights['parts'][name]) for name, value in weights['whole'].items())


def test_the_doctor_knows_the_data_sets(capsys):
    assert doctor.main([BOTH, *small('train_dataloader.sampler.cover=3')]) == 0
    text = re.sub(r'\s+', ' ', capsys.readouterr().out)
    assert 'MultiTaskConcatDataset, 15 samples' in text
    assert f'RoomsDataset, 6 samples: {", ".join(ROOM_TASKS)}' in text
    assert f'PhotosDataset, 9 samples: {", ".join(PHOTO_TASKS)}' in text
    assert 'sampler.cover=3 keeps every task in runs of 3 samples, but batches have 2 x 1' in text
    assert 'this config is ready to train.' in text


@pytest.mark.slow
def test_the_doctor_on_partial_labels(capsys):
    assert doctor.main([PARTIAL, *options(2, 'train_dataloader.sampler.cover=2')]) == 0
    text = re.sub(r'\s+', ' ', capsys.readouterr().out)
    assert 'is no multiple' not in text
    assert 'this config is ready to train.' in text


def test_browse_draws_both_data_sets(tmp_path):
    sizes = [option.replace('num_images=6', 'num_images=1') for option in small() if '.datasets.' in option]
    done = run_tool('datasets/browse.py', BOTH, '--split', 'val', '-n', '2', '--cfg-options', *sizes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '2 of 10 samples of the val split are drawn' in done.stdout
    assert len(list(tmp_path.rglob('*.png'))) == 2


def test_a_warning_where_batches_do_not_fit_cover(tmp_path):
    cfg = shrink(load_config(PARTIAL, work_dir=str(tmp_path)))
    told = broken_cover(cfg.train_dataloader)
    assert 'sampler.cover=8 keeps every task in runs of 8 samples, but batches have 2 x 1' in told


def test_a_task_more_and_a_task_less(trained, tmp_path):
    """From five tasks to four of them and a new one."""
    tasks = 'semseg,depth,normals,sal,human_parts'
    start = f'load_from={trained / "iter_2.pth"}'
    code = train.main([ELEVEN, '--tasks', tasks, '--work-dir', str(tmp_path), *options(2, start, 'optimizer.lr=0.0')])
    assert code == 0
    log = log_of(tmp_path)
    assert 'do not match exactly' not in log
    summary = log[log.index('Weights from') :].split(' - mmengine - ')[0].splitlines()
    assert re.search(r'iter_2\.pth: \d+ of \d+ tensors of the model loaded$', summary[0])
    new, old = (
        f'(heads.{task}.predictor.conv.weight, heads.{task}.predictor.conv.bias)' for task in ('human_parts', 'edge')
    )
    assert summary[1:4] == [
        '  loaded: semseg, depth, normals, sal',
        f'  human_parts: not in the checkpoint, 2 tensors start from random weights {new}',
        f'  edge: not in this model, 2 tensors of the checkpoint ignored {old}',
    ]
    saved = state(tmp_path / 'iter_2.pth')
    assert saved['meta']['iter'] == 2
    assert saved['optimizer']['mtl']['tasks'] == tasks.split(',')


def test_weights_are_taken_over(trained, tmp_path):
    start = f'load_from={trained / "iter_2.pth"}'
    still = ['optim_wrapper.optimizer.lr=0.0', 'optim_wrapper.optimizer.weight_decay=0.0', 'param_scheduler=[]']
    assert train.main([ROOMS, '--tasks', 'sal,depth', '--work-dir', str(tmp_path), *options(2, start, *still)]) == 0
    before, after = (state(folder / 'iter_2.pth')['state_dict'] for folder in (trained, tmp_path))
    assert set(after) == {name for name in before if not re.match(r'heads\.(semseg|normals|edge)\.', name)}
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_a_task_without_weights_is_not_evaluated(trained, tmp_path):
    arguments = [ELEVEN, str(trained / 'iter_2.pth'), '--work-dir', str(tmp_path), '--tasks', 'depth,human_parts']
    with pytest.raises(CheckpointMismatchError, match=r'no weights for human_parts.*--tasks depth\)'):
        test.main([*arguments, *options()])


def test_another_number_of_classes(trained, tmp_path):
    arguments = [ROOMS, '--tasks', 'semseg,depth', '--work-dir', str(tmp_path)]
    change = [f'load_from={trained / "iter_2.pth"}', 'model.heads.semseg.num_classes=15']
    # The data have 12 classes, which the metric would notice.
    change += ['train_cfg.val_interval=1000', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
    with pytest.raises(CheckpointMismatchError, match=r'heads\.semseg\.predictor\.conv\.bias \(12,\) -> \(15,\)'):
        train.main([*arguments, *options(2, *change)])
    skip = 'default_hooks.load_report.mismatch=skip'
    assert train.main([*arguments, *options(2, *change, skip)]) == 0
    assert state(tmp_path / 'iter_2.pth')['state_dict']['heads.semseg.predictor.conv.bias'].shape == (15,)


def test_resuming_with_other_tasks_names_the_way_out(trained, tmp_path):
    arguments = [ROOMS, '--tasks', 'depth,sal', '--work-dir', str(tmp_path)]
    with pytest.raises(ValueError, match=r'tasks.*load_from=PATH'):
        train.main([*arguments, '--resume-from', str(trained / 'iter_2.pth'), *options(3)])


def test_the_configs_of_the_page_work(tmp_path):
    """docs/partial_labels.md shows configs that build on shipped ones."""
    page = (ROOT / 'docs' / 'partial_labels.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', page, flags=re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        path = tmp_path / f'page_{number}.py'
        path.write_text(block.replace("'./", f"'{ROOT}/configs/rooms/"))
        cfg = shrink(load_config(path, work_dir=str(tmp_path / f'run_{number}')))
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        train.build_runner(cfg).train()
