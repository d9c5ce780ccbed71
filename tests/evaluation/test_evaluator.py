import logging
import math
import re

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mtl_plugins.evaluation import (
    DepthErrorMetric,
    MultiTaskEvaluator,
    ResultRow,
    SegmentationMetric,
    build_table,
    render_text,
)
from mtl_plugins.registry import EVALUATOR
from mtl_plugins.task_specs import TASK_SPECS
from tests.support.two_ranks import launch

from .dense_samples import META, random_pair, sample

BASELINES = dict(
    tasks=dict(
        semseg=dict(metric='semseg/mIoU', value=20.0, higher_is_better=True),
        depth=dict(metric='depth/RMSE', value=2.0, higher_is_better=False),
        normals=dict(metric='normals/mean', value=30.0, higher_is_better=False),
    )
)


@pytest.fixture
def messages(caplog):
    """What goes through MMEngine's logger."""
    name = f'evaluation-test-{id(caplog)}'
    logger = MMLogger.get_instance(name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def _samples(n=4, seed=0, **missing):
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(n):
        both = sample('semseg', *random_pair('classes', rng), index)
        depth = sample('depth', *random_pair('depth', rng), index)
        for name in ('gt_depth', 'pred_depth'):
            if name not in missing.get('without', ()):
                both.set_field(depth.get(name), name)
        samples.append(both)
    return samples


def _evaluate(evaluator, samples):
    evaluator.dataset_meta = META
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_auto_takes_the_tasks_of_the_data_set_and_adds_delta_m(messages):
    evaluator = EVALUATOR.build(dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', baselines=BASELINES))
    results = _evaluate(evaluator, _samples())
    assert evaluator.tasks == ('semseg', 'depth')
    expected = ((results['semseg/mIoU'] - 20) / 20 - (results['depth/RMSE'] - 2) / 2) * 100 / 2
    assert results['delta_m'] == pytest.approx(expected)
    levels = [record.levelno for record in messages.records if record.levelno > logging.DEBUG]
    assert levels == [logging.INFO], 'one message: the table'
    assert evaluator.table_text in messages.text
    assert re.search(
        r'seconds for the metrics: \d+\.\d \((semseg \d+\.\d, depth|depth \d+\.\d, semseg) \d+\.\d\)', messages.text
    )


def test_results_equal_those_of_the_metrics_alone():
    samples = _samples()
    together = _evaluate(MultiTaskEvaluator(tasks=['depth', 'semseg']), samples)
    alone = _evaluate(MultiTaskEvaluator([SegmentationMetric(), DepthErrorMetric()]), samples)
    assert together == alone
    assert 'delta_m' not in together


def test_every_task_has_a_default_metric_with_its_headline():
    evaluator = MultiTaskEvaluator('auto', tasks=list(TASK_SPECS))
    evaluator.dataset_meta = dict(classes=dict(semseg=('a', 'b'), human_parts=('a', 'b')))
    results = evaluator.evaluate(0)
    assert {spec.headline_key for spec in TASK_SPECS.values()} <= set(results)
    assert all(math.isnan(value) for value in results.values())
    text = evaluator.table_text
    assert all(spec.title in text for spec in TASK_SPECS.values())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(baselines=dict(tasks=dict(semseg=BASELINES['tasks']['semseg']))), "task 'depth' has no baseline"),
        (dict(baselines=BASELINES, without=('gt_depth',)), "depth/RMSE of task 'depth' is nan"),
    ],
)
def test_undefined_delta_m_is_explained_once(messages, options, message):
    samples = _samples(without=options.pop('without', ()))
    results = _evaluate(MultiTaskEvaluator(**options), samples)
    assert math.isnan(results['delta_m'])
    warnings = [record.getMessage() for record in messages.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert message in warnings[0]
    assert 'semseg' not in warnings[0]


def test_missing_baseline_can_be_an_error():
    one = dict(tasks=dict(semseg=BASELINES['tasks']['semseg']))
    with pytest.raises(ValueError, match=r"no entry for task 'depth' \(they have semseg\)"):
        MultiTaskEvaluator(tasks=['semseg', 'depth'], baselines=one, missing='raise')


def test_baseline_of_another_metric_is_refused():
    wrong = dict(tasks=dict(depth=dict(metric='depth/abs_rel', value=0.2, higher_is_better=False)))
    with pytest.raises(
        ValueError, match=r"compared by metric='depth/RMSE', but its baseline has metric='depth/abs_rel'"
    ):
        MultiTaskEvaluator(tasks=['depth'], baselines=wrong)
    headline = dict(depth=dict(metric='depth/abs_rel'))
    results = _evaluate(MultiTaskEvaluator(tasks=['depth'], baselines=wrong, headlines=headline), _samples())
    assert results['delta_m'] == pytest.approx(-100 * (results['depth/abs_rel'] - 0.2) / 0.2)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(metrics='all'), ValueError, "metrics must be 'auto' or metrics"),
        (dict(missing='skip'), ValueError, r"missing must be one of \('nan', 'raise'\)"),
        (dict(tasks='depth'), TypeError, 'tasks must be a list'),
        (dict(tasks=['dept']), KeyError, "did you mean 'depth'"),
        (dict(tasks=['depth'], headlines=dict(sal={})), ValueError, r"headlines names \['sal'\]"),
        (
            dict(tasks=['depth'], headlines=dict(depth=dict(metric='depth/delta1'))),
            ValueError,
            'depth/delta1, of which higher values are better; say so by .*higher_is_better=True',
        ),
        (
            dict(tasks=['depth'], headlines=dict(depth=dict(better='higher'))),
            ValueError,
            r"entries of headlines\['depth'\] must be one of \('metric', .*'unit'\), but got 'better'",
        ),
        (
            dict(baselines=3),
            TypeError,
            'baselines must be a string or a path or a dict or None, but got 3',
        ),
        (dict(baselines='nowhere.json'), FileNotFoundError, 'no file nowhere.json'),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        MultiTaskEvaluator(**options)


def test_tasks_must_come_from_somewhere():
    with pytest.raises(ValueError, match=r"give tasks=\[\.\.\.\].*it has \['classes'\]"):
        MultiTaskEvaluator('auto').dataset_meta = dict(classes={})


def test_table_reads_well():
    rows = [
        ResultRow('Semantic segmentation', 'mIoU', 41.234, '%', True, 40.0, 3.085),
        ResultRow('', 'aAcc', 71.0, '%', True),
        ResultRow('Depth', 'RMSE', 0.61234, 'm', False, 0.6, -2.06),
        ResultRow('Edges', 'odsF_greedy', math.nan, '%', True),
    ]
    text = render_text(build_table(rows, math.nan))
    lines = text.splitlines()
    (line,) = [line for line in lines if 'mIoU ↑' in line]
    assert '+3.08 %' in line
    assert 'RMSE ↓' in text
    assert '0.6123' in text
    assert lines[-1].split() == ['Δm', 'mean', 'change', 'nan']
    assert '\x1b' not in text
    assert max(map(len, lines)) <= 110
    plain = render_text(build_table([ResultRow('Depth', 'RMSE', 0.5, 'm', False)]))
    assert 'Single task' not in plain
    assert 'Δm' not in plain


def test_details_list_the_other_metrics_with_their_units():
    evaluator = MultiTaskEvaluator(details=True)
    _evaluate(evaluator, _samples())
    lines = [line.split() for line in evaluator.table_text.splitlines()]
    assert ['aAcc', '↑'] in [line[:2] for line in lines]
    (row,) = [line for line in lines if line[:1] == ['delta1']]
    assert row[1] == '↑'
    assert row[-1] == '%'


class _Stored(torch.utils.data.Dataset):
    metainfo = META

    def __init__(self, n):
        self.samples = _samples(n)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(1), data_samples=self.samples[index])


class _Echo(torch.nn.Module):
    """Returns the stored predictions."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def train_step(self, data, optim_wrapper):
        return {}

    def val_step(self, data):
        return data['data_samples']


def _loader(data):
    return dict(
        dataset=data, batch_size=3, num_workers=0, collate_fn=dict(type='pseudo_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )  # fmt: skip


def test_runner_builds_it_and_saves_the_best_by_delta_m(tmp_path):
    runner = Runner(
        model=_Echo(),
        work_dir=str(tmp_path),
        train_dataloader=_loader(_Stored(3)),
        val_dataloader=_loader(_Stored(5)),
        train_cfg=dict(by_epoch=False, max_iters=2, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_evaluator=dict(type='mtl_plugins.MultiTaskEvaluator', metrics='auto', baselines=BASELINES),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10, save_best='delta_m', rule='greater')
        ),
        default_scope='mtl_plugins',
        experiment_name=f'delta_m-{tmp_path.name}',
        log_level='WARNING',
    )
    runner.train()
    assert isinstance(runner.val_evaluator, MultiTaskEvaluator)
    assert [path.name for path in tmp_path.glob('best*')] == ['best_delta_m_iter_1.pth']
    single = _evaluate(MultiTaskEvaluator(baselines=BASELINES), _samples(5))
    assert runner.message_hub.get_scalar('val/delta_m').current() == pytest.approx(single['delta_m'])


def _job(rank):
    everything = _samples(5)
    everything.append(everything[0])  # a sampler rounds up to equal shares
    evaluator = MultiTaskEvaluator(baselines=BASELINES)
    evaluator.dataset_meta = META
    evaluator.process(everything[rank::2])
    return evaluator.evaluate(5)


def test_two_processes_count_each_image_once(tmp_path):
    first, second = launch(_job, tmp_path)
    assert first == second
    assert first == pytest.approx(_evaluate(MultiTaskEvaluator(baselines=BASELINES), _samples(5)))


def test_headline_that_no_metric_computes_is_refused():
    exact = dict(type='EdgeMetric', task='edge', matcher='exact')
    with pytest.raises(ValueError, match=r"task 'edge' is compared by edge/odsF_greedy, .* compute edge/odsF;"):
        MultiTaskEvaluator(metrics=[exact])
    MultiTaskEvaluator(metrics=[exact], headlines=dict(edge=dict(metric='edge/odsF')))
