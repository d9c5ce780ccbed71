"""Weights of classes: numbers, files, and ``'auto'`` from the training labels."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl_plugins.cli import train as train_api
from mtl_plugins.datasets import MultiTaskConcatDataset, RoomsDataset, label_counts
from mtl_plugins.datasets.label_counts import class_counts
from mtl_plugins.engine.hooks.class_weights import equal_class_weights, settle_class_weights
from mtl_plugins.errors import UserError
from mtl_plugins.models.heads import TaskHead
from mtl_plugins.models.losses import MaskedBCELoss, MaskedCrossEntropyLoss, median_frequency
from tests.support.runs import tiny_config

CE, BCE = 'mtl_plugins.MaskedCrossEntropyLoss', 'mtl_plugins.MaskedBCELoss'


def head(weight, task='semseg', kind=CE, **options):
    options = options or (dict(num_classes=3) if task == 'semseg' else {})
    return TaskHead(task, 4, loss=dict(type=kind, class_weight=weight), **options)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(2, 3, 5, 7, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 1, 5, 7), generator=generator)
    return pred, target, torch.rand(2, 5, 7, generator=generator) > 0.3


def test_the_weighted_cross_entropy_is_that_of_torch_over_the_labelled_pixels():
    pred, target, valid = batch()
    weights = torch.tensor([0.5, 2.0, 0.0])
    expected = (F.cross_entropy(pred, target[:, 0], weights, reduction='none') * valid).sum() / valid.sum()
    loss = MaskedCrossEntropyLoss([0.5, 2, 0])(pred, target, valid)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert torch.isfinite(pred.grad).all()
    plain = MaskedCrossEntropyLoss()(pred, target, valid)
    assert torch.equal(plain, MaskedCrossEntropyLoss([1, 1, 1])(pred, target, valid))
    assert MaskedCrossEntropyLoss([1, 1, 1])(pred.half(), target, valid).dtype == torch.float32


def test_a_joint_batch_is_still_the_mean_of_its_parts():
    pred, target, valid = batch(1)
    loss = MaskedCrossEntropyLoss([0.5, 2, 3])
    parts = [loss(pred[i : i + 1], target[i : i + 1], valid[i : i + 1]) * valid[i].sum() for i in range(2)]
    torch.testing.assert_close(loss(pred, target, valid), sum(parts) / valid.sum())


def test_binary_weights_are_those_of_negatives_and_positives():
    pred, target, valid = batch()
    pred, target = pred[:, :1], (target > 0).long()
    both = MaskedBCELoss(pos_weight=3, scale=2)(pred, target, valid)
    torch.testing.assert_close(MaskedBCELoss(class_weight=[2, 6])(pred, target, valid), both)
    with pytest.raises(UserError, match='give class_weight or pos_weight, not both'):
        MaskedBCELoss(pos_weight=2, class_weight=[1, 2])


@pytest.mark.parametrize('name', ['w.json', 'w.npy', 'w.txt', 'commas.txt', 'bom.json', 'bom.txt'])
def test_files(tmp_path, name):
    path, encoding = tmp_path / name, 'utf-8-sig' if name.startswith('bom') else 'utf-8'
    if name.endswith('.npy'):
        np.save(path, np.array([1, 2.5, 0]))
    else:
        path.write_text(
            {'.json': '[1, 2.5, 0]', '.txt': '1, 2.5, 0' if name == 'commas.txt' else '1\n2.5\n0\n'}[path.suffix],
            encoding,
        )
    assert head(str(path)).criterion.class_weight.values == (1, 2.5, 0)


WRONG = [
    (
        [1, 2],
        "head of task 'semseg': MaskedCrossEntropyLoss: class_weight must have 3 numbers, one per class, but has 2",
    ),
    ([1, -2, 3], r'numbers of 0 or more in float32, not all 0, but got \[1, -2, 3\]'),
    ([0, 0, 0], 'not all 0'),
    ([1, 1e39, 1], 'in float32'),
    ([1, 1e-50, 1], 'in float32'),
    ('~nobody of this name/w.txt', 'there is no file'),
    ([1, float('nan'), 1], 'finite numbers'),
    ([1, '2', 3], 'must be a list of numbers'),
    ([[1, 2, 3]], 'must be a list of numbers'),
    ([], 'must be a list of numbers'),
    (2.0, 'must be a list of numbers'),
    (True, 'must be a list of numbers'),
    ({'a': 1}, 'must be a list of numbers'),
    ('/nowhere/w.json', 'there is no file /nowhere/w.json'),
    ('atuo', r"'auto', or a file ending in .json, .npy, .txt, but got 'atuo'"),
]


@pytest.mark.parametrize(('weight', 'text'), WRONG)
def test_what_cannot_be_weights_is_refused_when_the_model_is_built(weight, text):
    with pytest.raises(UserError, match=text):
        head(weight)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('a.json', b'{"x": 1}'),
        ('b.json', b'[1,'),
        ('c.txt', b'1 two'),
        ('d.npy', b'x'),
        ('e.json', b'[' * 100_000),
        ('f.json', b'[1, 1' + b'0' * 400 + b', 1]'),
        ('g.txt', b'\xff\xfe1\0'),
    ],
)
def test_files_that_hold_no_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match='MaskedCrossEntropyLoss: class_weight'):
        head(str(tmp_path / name))


def test_other_numbers_of_classes_for_binary_heads():
    with pytest.raises(UserError, match='must have 2 numbers, one per class, but has 3'):
        head([1, 2, 3], 'edge', BCE)
    assert head([1, 2], 'sal', CE, channels=2).criterion.class_weight.values == (1, 2)


@pytest.mark.parametrize('kind', ['BalancedCrossEntropyLoss', 'MaskedL1Loss', 'NormalsL1Loss', 'NormalsCosineLoss'])
def test_losses_in_which_weights_of_classes_have_no_sense(kind):
    task = 'sal' if kind.startswith('B') else 'normals'
    with pytest.raises(UserError, match=rf"head of task '{task}': the loss {kind} takes no class_weight"):
        head([1, 2], task, f'mtl_plugins.{kind}')


def test_a_decode_head_of_mmseg_drops_its_own_loss_not_in_silence():
    predictor = dict(
        type='mmseg.FCNHead', channels=4, num_convs=1, loss_decode=dict(type='CrossEntropyLoss', class_weight=[1, 2, 3])
    )
    with pytest.raises(UserError, match=r'loss_decode.class_weight would have no effect'):
        TaskHead('semseg', 4, num_classes=3, predictor=predictor)


def test_median_frequency():
    # Shares 0.5, 0.25 and 0.1; the fourth class never occurs.
    assert median_frequency([50, 25, 10, 0], [100, 100, 100, 0]) == pytest.approx([0.5, 1, 2.5, 1])
    assert median_frequency([30, 10], [60, 40]) == pytest.approx([0.75, 1.5])
    with pytest.raises(UserError, match='not a single labelled pixel'):
        median_frequency([0, 0], [0, 0])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MTL_PLUGINS_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def rooms(cache, count=5, tasks=('semseg', 'edge'), transforms=()):
    pipeline = [dict(type='mtl_plugins.LoadCachedSample'), *transforms, dict(type='mtl_plugins.PackMultiTaskInputs')]
    return RoomsDataset(num_images=count, size=(24, 32), tasks=tasks, cache_dir=cache, pipeline=pipeline)


def slow_counts(dataset, task, classes):
    pixels, present = [0] * classes, [0] * classes
    for index in range(len(dataset)):
        labels = dataset[index]['data_samples'].get(f'gt_{task}').data.flatten().tolist()
        labels = [label for label in labels if label != 255]
        for label in set(labels):
            pixels[label] += labels.count(label)
            present[label] += len(labels)
    return pixels, present


def test_counts_are_those_of_the_files_whatever_the_augmentation(cache):
    crop = [
        dict(
            type='mtl_plugins.SeededTransforms', transforms=[dict(type='mtl_plugins.MultiTaskRandomCrop', size=(8, 8))]
        )
    ]
    counts = class_counts(rooms(cache, transforms=crop), dict(semseg=12, edge=2))
    for task, classes in (('semseg', 12), ('edge', 2)):
        assert tuple(counts[task]) == slow_counts(rooms(cache), task, classes)


def test_counts_of_a_concatenation_are_those_of_its_parts(cache):
    both = MultiTaskConcatDataset([rooms(cache), rooms(cache, tasks=('semseg',))])
    pixels, _ = class_counts(both, dict(semseg=12))['semseg']
    assert pixels == [2 * count for count in slow_counts(rooms(cache), 'semseg', 12)[0]]


def test_counts_are_kept_until_something_changes(cache, monkeypatch):
    first = class_counts(rooms(cache), dict(semseg=12))
    with monkeypatch.context() as during:
        during.setattr(label_counts, '_count', None)
        assert class_counts(rooms(cache), dict(semseg=12)) == first
        with pytest.raises(TypeError):  # other samples
            class_counts(rooms(cache, 4), dict(semseg=12))
        with pytest.raises(TypeError):  # other labels by the pipeline
            class_counts(
                rooms(cache, transforms=[dict(type='mtl_plugins.RandomLabelSubset', tasks=['semseg', 'edge'])]),
                dict(semseg=12),
            )
        for table in ({0: 1}, np.arange(12), [*range(3000)]):  # how labels are renumbered
            renumbered = rooms(cache)
            renumbered.label_map = table
            with pytest.raises(TypeError):
                class_counts(renumbered, dict(semseg=12))
    path = sorted(cache.rglob('0*.npz'))[0]
    path.touch()
    with monkeypatch.context() as during:
        during.setattr(label_counts, '_count', None)
        with pytest.raises(TypeError):
            class_counts(rooms(cache), dict(semseg=12))
    (cache / 'class_counts').rename(cache / 'gone')
    assert class_counts(rooms(cache), dict(semseg=12), num_workers=1) == first


def test_labels_that_no_class_has(cache):
    with pytest.raises(UserError, match=r'sample 0 has the label .* of task semseg, which has 2 classes'):
        class_counts(rooms(cache), dict(semseg=2))
    with pytest.raises(UserError, match='none of the 5 training samples has a labelled pixel of task sal'):
        class_counts(rooms(cache), dict(sal=2))


def auto_config(tmp_path, cache):
    loss = dict(type=CE, class_weight='auto')
    cfg = tiny_config(tmp_path, cache, 'gd', **{'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1})
    cfg.model.heads.semseg.loss = loss
    return cfg


def test_auto_is_settled_before_training(tmp_path, cache):
    cfg = auto_config(tmp_path, cache)
    runner = train_api.build_runner(cfg)
    criterion = runner.model.heads['semseg'].criterion
    pred, target, valid = torch.zeros(1, 12, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    with pytest.raises(UserError, match=r'ClassWeightHook, which the train command.*custom_hooks=\[dict'):
        criterion(pred, target, valid)
    runner.train()
    dataset = RoomsDataset(num_images=11, size=(48, 48), tasks=['semseg'], cache_dir=cache, pipeline=rooms_pipeline())
    expected = median_frequency(*slow_counts(dataset, 'semseg', 12))
    assert criterion.class_weight.values == pytest.approx(expected)
    assert not [key for key in runner.model.state_dict() if 'weight' in key and 'criterion' in key]


def rooms_pipeline():
    return [dict(type='mtl_plugins.LoadCachedSample'), dict(type='mtl_plugins.PackMultiTaskInputs')]


def test_all_ranks_get_what_the_first_has_counted(cache, monkeypatch):
    model = torch.nn.Module()
    model.heads = torch.nn.ModuleDict(dict(semseg=head('auto', num_classes=12)))
    from mtl_plugins.engine.hooks import class_weights

    monkeypatch.setattr(class_weights, 'is_main_process', lambda: False)
    monkeypatch.setattr(class_weights, 'class_counts', None)
    sent = [dict(semseg=[float(number + 1) for number in range(12)])]
    monkeypatch.setattr(class_weights, 'broadcast_object_list', lambda told: told.__setitem__(0, sent[0]))
    settle_class_weights(model, None)
    assert model.heads['semseg'].criterion.class_weight.values == tuple(sent[0]['semseg'])
    sent[0] = ValueError('broken label')
    with pytest.raises(UserError, match='rank 0 could not count the labels: broken label'):
        settle_class_weights(model, None)
    equal_class_weights(model)
    assert set(model.heads['semseg'].criterion.class_weight.values) == {1}


def test_the_weights_are_written_as_json(tmp_path):
    path = tmp_path / 'w.json'
    path.write_text(json.dumps(list(head([1, 2, 3]).criterion.class_weight.values)))
    assert head(path.as_posix()).criterion.class_weight.values == (1, 2, 3)
