"""Logs, metrics and pictures of a training in TensorBoard, Weights & Biases and MLflow, all without a network."""

import json
import os
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.visualization import Visualizer

from mtl_plugins.config.log_services import SERVICES, log_to
from mtl_plugins.visualization.backends import metric_name, picture_services
from tests.support.programs import run
from tests.support.tiny import ROOMS, options

SCALARS = {'semseg.loss', 'semseg/mIoU', 'depth/RMSE', 'lr'}
PICTURES = {'affinity', 'groups', 'panel_000000'}


@pytest.fixture
def train(tmp_path_factory, monkeypatch):
    """Train four iterations with ``--log-to``, in a process of its own and a new folder, which is returned."""

    def start(service):
        pytest.importorskip(service, reason=f'pip install -e ".[{service}]"')
        folder = tmp_path_factory.mktemp(service)
        for name in [name for name in os.environ if name.startswith(('WANDB', 'MLFLOW'))]:
            monkeypatch.delenv(name)
        often = ('default_hooks.logger.interval=1', 'custom_hooks.7.interval=1')
        command = ['-m', 'mtl_plugins', 'train', ROOMS, '--work-dir', folder / 'run', '--log-to', service]
        done = run(*command, *options(4, *often), cwd=folder, env={'WANDB_MODE': 'offline'})
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert 'Could not log' not in done.stdout
        return folder

    return start


def test_tensorboard(train):
    folder = train('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (folder / 'run').glob('*/vis_data/events.out.*')
    log = EventAccumulator(str(events))
    log.Reload()
    assert set(log.Tags()['scalars']) >= SCALARS | {'affinity/semseg->depth'}
    assert [event.step for event in log.Scalars('semseg.loss')] == [1, 2, 3, 4]
    assert set(log.Tags()['images']) >= PICTURES
    # The hooks wrote the same pictures as files; a second copy would be no use.
    assert not list((folder / 'run').glob('*/vis_data/vis_image/*'))


@pytest.mark.slow
def test_wandb(train):
    folder = train('wandb')
    (run,) = (folder / 'run').glob('*/vis_data/wandb/offline-run-*')
    (record,) = run.glob('run-*.wandb')
    written = record.read_bytes()
    assert all(name.encode() in written for name in {*SCALARS, 'affinity/semseg->depth'})
    kept = {path.name.partition('_')[0] for path in (run / 'files/media/images').glob('*.png')}
    assert {'affinity', 'groups', 'panel'} <= kept
    assert not list(run.glob('files/code/**/*.py'))


@pytest.mark.slow
def test_mlflow(train):
    folder = train('mlflow')
    code = """
        import json, mlflow
        client = mlflow.MlflowClient('sqlite:///mlflow.db')
        experiment = client.get_experiment_by_name('mtl_plugins')
        (run,) = client.search_runs([experiment.experiment_id])
        steps = [point.step for point in client.get_metric_history(run.info.run_id, 'semseg.loss')]
        files = [entry.path for entry in client.list_artifacts(run.info.run_id)]
        print(json.dumps([run.info.run_name, run.info.status, list(run.data.metrics), steps, files]))
    """
    done = run('-c', code, cwd=folder)
    assert done.returncode == 0, done.stderr
    name, status, metrics, steps, files = json.loads(done.stdout.splitlines()[-1])
    assert (name, status, sorted(steps)) == ('run', 'FINISHED', [1, 2, 3, 4])
    assert set(metrics) >= SCALARS | {'affinity/semseg to depth'}
    assert set(files) >= PICTURES | {'config.py'}


def test_only_services_get_pictures(tmp_path):
    visualizer = Visualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path))
    assert picture_services(visualizer) == []
    service = object()
    assert picture_services(SimpleNamespace(_vis_backends={'service': service})) == [service]


def test_backends_are_added_to_those_of_the_config(monkeypatch):
    monkeypatch.setattr('mtl_plugins.config.log_services.find_spec', lambda name: object())
    cfg = Config(dict(work_dir='work_dirs/a-run'))
    log_to(cfg, [])
    assert 'visualizer' not in cfg
    log_to(cfg, SERVICES)
    local, _, wandb, mlflow = cfg.visualizer.vis_backends
    assert local == dict(type='LocalVisBackend')
    assert (wandb.init_kwargs.name, mlflow.run_name) == ('a-run', 'a-run')
    monkeypatch.setenv('WANDB_PROJECT', 'p')
    cfg.visualizer = dict(type='SegLocalVisualizer', vis_backends=[])
    log_to(cfg, ['wandb'])
    assert cfg.visualizer.type == 'SegLocalVisualizer'
    assert [backend.init_kwargs.project for backend in cfg.visualizer.vis_backends] == ['p']


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr('mtl_plugins.config.log_services.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='takes tensorboard, wandb, mlflow, but got comet'):
        log_to(Config(dict(work_dir='x')), ['wandb', 'comet'])
    with pytest.raises(ModuleNotFoundError, match=r'needs wandb: pip install "mtl-plugins\[wandb\]"'):
        log_to(Config(dict(work_dir='x')), ['wandb'])


def test_names_that_mlflow_takes():
    assert metric_name('affinity/a->b') == 'affinity/a to b'
    assert metric_name('normals/11.25 < (deg)') == 'normals/11.25 _ _deg_'
    assert metric_name('semseg/mIoU') == 'semseg/mIoU'
