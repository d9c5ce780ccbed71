"""The published comparisons are those of the committed results, and these of the configs as they are."""

import io
import json

import pandas
import pytest

from mtl_plugins.config.loading import load_config
from mtl_plugins.experiments.compare import RecordStore
from mtl_plugins.experiments.compare.plan import comparison_header, single_task_run
from mtl_plugins.experiments.compare.records import fingerprint
from mtl_plugins.experiments.compare.views import view
from mtl_plugins.experiments.report import Comparison
from mtl_plugins.experiments.report.writing import pairs_csv, runs_csv, summary_csv
from mtl_plugins.experiments.runs import decisive_settings

from .pages import ROOT

EVIDENCE = ROOT / 'docs' / 'evidence'
RESULTS = sorted(EVIDENCE.glob('*.json'))
REPORTED = [*RESULTS, *sorted((ROOT / 'projects' / 'nyuv2_small').glob('*.json'))]


def test_there_are_results_of_all_settings():
    names = ['rooms-64-11t', 'rooms-64-5t', 'nyuv2-112x140', 'nyuv2-64x80-100', 'nyuv2-64x80']
    assert [path.stem for path in REPORTED] == names


@pytest.mark.parametrize('path', REPORTED, ids=lambda path: path.stem)
def test_the_tables_are_those_of_the_results(path):
    """If not: make the reports anew with the commands of docs/evidence/README.md."""
    store = RecordStore(path, None)
    comparison = Comparison(store.header, view(store)[0])
    for name, make in (('runs.csv', runs_csv), ('summary.csv', summary_csv), ('pairs.csv', pairs_csv)):
        written = pandas.read_csv(EVIDENCE / path.stem / name)
        pandas.testing.assert_frame_equal(written, pandas.read_csv(io.StringIO(make(comparison))), rtol=1e-9, obj=name)


@pytest.mark.parametrize('path', RESULTS, ids=lambda path: path.stem)
def test_the_settings_are_those_of_the_config(path, tmp_path):
    """A config that changed would silently belong to other results; then train anew, or name it anew."""
    content = json.loads(path.read_text())
    cfg = load_config(ROOT / 'configs' / 'rooms' / content['config'])
    store = RecordStore(tmp_path / 'empty.json', comparison_header(cfg, content['config']))
    assert {key: content[key] for key in store.header} == store.header
    now = {task: single_task_run(cfg, task, 0, tmp_path, store).settings for task in store.header['tasks']}
    then = {run['task']: run['settings'] for run in content['runs'] if run['task'] and run['seed'] == 0}
    assert then == now
    (plain,) = [run for run in content['runs'] if run['variant'] == 'gd' and run['seed'] == 0]
    cfg.resume, cfg.launcher = False, 'none'
    assert plain['settings'] == fingerprint(decisive_settings(cfg))
