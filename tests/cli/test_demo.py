"""The demo's table; the demo itself is run by ``make demo``."""

import io
import json

from rich.console import Console

from mtl_plugins.cli.demo import CONFIG, _unfinished, summary
from mtl_plugins.config.loading import configs_root, load_config
from mtl_plugins.evaluation import load_baselines
from mtl_plugins.task_specs import get_task_specs


def rendered(table):
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def test_table_of_the_shipped_baselines_fits_into_80_columns(tmp_path):
    cfg = load_config(configs_root() / CONFIG, work_dir=str(tmp_path))
    baselines = load_baselines(cfg.val_evaluator.baselines)['tasks']
    specs = get_task_specs(cfg.tasks)
    assert {spec.headline_key for spec in specs} == {entry['metric'] for entry in baselines.values()}
    untrained = {spec.headline_key: 123.456 for spec in specs}
    # Every task 10 % better than its baseline, in its own direction.
    trained = {
        spec.headline_key: baselines[spec.key]['value'] * (1.1 if spec.higher_is_better else 0.9) for spec in specs
    }
    text = rendered(summary(cfg.tasks, untrained, trained, baselines))
    assert '…' not in text
    assert text.count('+10.0 %') == 5
    assert '+10.00 %' in text


def test_table_without_baselines_and_with_missing_values():
    text = rendered(summary(['depth'], {'depth/RMSE': 3.0}, {'depth/RMSE': None}, {}))
    assert 'Δm' not in text
    assert 'nan' in text


def test_a_finished_demo_starts_anew(tmp_path):
    assert _unfinished(tmp_path, 500) is None
    (tmp_path / 'untrained.json').write_text(json.dumps({}))
    assert _unfinished(tmp_path, 500) is None
