import socket
import subprocess
import sys
import textwrap
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mtl_plugins import compat
from mtl_plugins.errors import UserError


def run_python(code, *blocked):
    """Run ``code`` in a fresh interpreter in which the ``blocked`` packages cannot be found."""
    prelude = f"""
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split('.')[0] in {blocked!r}:
                    raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

        sys.meta_path.insert(0, Blocker())
    """
    source = textwrap.dedent(prelude) + textwrap.dedent(code)
    return subprocess.run([sys.executable, '-c', source], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize('blocked', [('mmengine', 'mmcv', 'mmseg'), ('mmseg',)])
def test_without_the_stack_one_message_says_what_to_install(blocked):
    result = run_python('import mtl_plugins, mtl_plugins.methods; print(mtl_plugins.__version__)', *blocked)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count('needs the OpenMMLab stack') == 1
    assert f'but {", ".join(blocked)} cannot be imported' in result.stderr
    assert 'pip install "mtl-plugins[openmmlab]"' in result.stderr
    assert 'Traceback' not in result.stderr


def test_without_the_stack_the_registries_raise_an_import_error():
    code = """
        import warnings
        warnings.simplefilter('ignore')
        try:
            import mtl_plugins.registry
        except ImportError as error:
            print('ImportError:', error)
    """
    result = run_python(code, 'mmengine', 'mmcv', 'mmseg')
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('ImportError:')
    assert 'mmengine' in result.stdout


def test_with_the_stack_nothing_is_said():
    result = run_python('import mtl_plugins, mtl_plugins.registry')
    assert result.returncode == 0
    assert result.stderr == ''


def test_debug_messages_of_the_stack_stay_off_stdout():
    code = """
        import logging
        import mtl_plugins
        mtl_plugins.compat.repair_stack()  # a second time changes nothing
        import mmseg.datasets
        from mmengine.logging import print_log
        print_log('debug', level=logging.DEBUG)
        print_log('info')
        print_log('warning', None, logging.WARNING)
    """
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ['info', 'warning']


def test_the_original_family_is_recognised_and_the_way_out_is_told(monkeypatch):
    def version(name):
        if name in ('mmengine', 'mmsegmentation'):
            return '1.0'
        raise PackageNotFoundError(name)

    monkeypatch.setattr(compat, 'version', version)
    with pytest.warns(UserWarning, match='pip uninstall mmengine mmsegmentation, then pip install') as caught:
        assert compat.check_stack()
    assert len(caught) == 1


@pytest.mark.parametrize('base', ['mmseg::_base_/default_runtime.py', 'mmseg::_base_/schedules/schedule_20k.py'])
def test_bases_of_mmseg_resolve(tmp_path, base):
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = '{base}'\n")
    assert len(Config.fromfile(path)) > 1


def test_bases_of_mtl_plugins_resolve(tmp_path):
    folder = Path(compat.__file__).parents[1] / 'configs' / '_base_'
    names = sorted(path.relative_to(folder.parent) for path in folder.rglob('*.py'))
    assert names, f'no base config below {folder}'
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = 'mtl_plugins::{names[0]}'\n")
    Config.fromfile(path)


def test_repairing_twice_changes_nothing():
    from mmengine.config import utils

    compat.repair_stack()
    before = dict(utils.MODULE2PACKAGE)
    compat.repair_stack()
    assert before == utils.MODULE2PACKAGE
    assert before['mmseg'] == 'mmseg'
    assert before['mtl_plugins'] == 'mtl_plugins'


@pytest.fixture
def on_cpu(monkeypatch):
    """As seen by a machine without CUDA; records the backend that a process group would be made with."""
    backends = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: bool(backends))
    monkeypatch.setattr(torch.distributed, 'init_process_group', backends.append)
    return backends


def test_ddp_on_cpu_gets_gloo_and_no_device(on_cpu):
    cfg = Config(dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', find_unused_parameters=True)))
    compat.prepare_cpu_ddp(cfg, 'pytorch')
    compat.prepare_cpu_ddp(cfg, 'pytorch')
    assert on_cpu == ['gloo']
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters


def test_the_settings_of_the_process_group_hold_on_the_cpu_too(monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend, **more: made.append((backend, more)))
    for settings in (dict(), dict(timeout=None), dict(backend='nccl', timeout=1.5, init_method='env://')):
        compat.prepare_cpu_ddp(Config(dict(env_cfg=dict(dist_cfg=settings))), 'pytorch')
    more = dict(timeout=timedelta(seconds=1.5), init_method='env://')
    assert made == [('gloo', {}), ('gloo', {}), ('gloo', more)]


@pytest.mark.parametrize('cuda', [False, True])
@pytest.mark.parametrize('timeout', [0, -1, '30', True, [30], float('inf'), float('nan')])
def test_a_time_limit_that_is_none_is_refused(timeout, cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = Config(dict(env_cfg=dict(dist_cfg=dict(timeout=timeout))))
    with pytest.raises(UserError, match=r'env_cfg\.dist_cfg\.timeout must be a number of seconds above 0, but got'):
        compat.prepare_cpu_ddp(cfg, 'pytorch')
    compat.prepare_cpu_ddp(cfg, 'none')


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_is_said(monkeypatch):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    for name, value in dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, RANK=0, WORLD_SIZE=2).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(torch.distributed.DistError):
        compat.prepare_cpu_ddp(Config(dict(env_cfg=dict(dist_cfg=dict(timeout=1)))), 'pytorch')


def test_one_process_or_cuda_is_left_alone(on_cpu, monkeypatch):
    cfg = Config(dict())
    compat.prepare_cpu_ddp(cfg, 'none')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    compat.prepare_cpu_ddp(cfg, 'pytorch')
    assert on_cpu == []
    assert 'model_wrapper_cfg' not in cfg


def test_another_launcher_on_cpu_is_refused(on_cpu):
    with pytest.raises(ValueError, match="launcher='slurm' needs CUDA; on CPU use launcher='pytorch'"):
        compat.prepare_cpu_ddp(Config(dict()), 'slurm')
