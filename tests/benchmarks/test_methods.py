"""The benchmark of the methods on tiny networks: equal updates, counts, memory; nothing that depends on the clock."""

import copy
import importlib.util
import json
import re

import pytest
import torch

from benchmarks import method_equality, method_results, methods
from benchmarks.equality import TOLERANCE, UnequalUpdatesError
from benchmarks.method_equality import check_methods, difference, pairs
from benchmarks.method_results import check_setting, flop_floor
from benchmarks.method_systems import OURS, Parts, build_hand, build_ours
from benchmarks.methods import build_all, count_flops, flop_parts, main, measure
from benchmarks.peers import PeerMissingError, load_libmtl, load_torchjd
from benchmarks.workload import Workload

VIT = dict(embed_dim=32, depth=2, num_heads=2, patch_size=8, out_indices=(0, 1))
CONV = dict(type='mtl_plugins.BenchmarkConvEncoder', widths=(8, 16))
NO_PEERS = dict(torchjd=None, libmtl=None)


def micro(num_tasks=4, backbone=VIT):
    return Workload(num_tasks, image_size=32, batch_size=2, backbone=backbone)


@pytest.mark.parametrize('backbone', [VIT, CONV], ids=['vit', 'conv'])
@pytest.mark.parametrize('num_tasks', [2, 5])
def test_steps_by_hand_make_our_updates(num_tasks, backbone):
    work = micro(num_tasks, backbone)
    found = check_methods(work, work.make_batch(), **NO_PEERS)
    assert set(found) == {'by hand, K rows', 'by hand, features'}


def test_another_update_voids_the_comparison(monkeypatch):
    work = micro()
    batch = work.make_batch()
    hand = pairs(work, None, None)['by hand, K rows'][0]
    upgrad = lambda **kwargs: build_ours('upgrad', **kwargs)  # noqa: E731
    assert difference(hand, upgrad, work, batch, 1) > 100 * TOLERANCE  # the tasks do conflict
    monkeypatch.setattr(method_equality, 'pairs', lambda *_: {'by hand, K rows': (hand, upgrad)})
    with pytest.raises(UnequalUpdatesError, match="with 4 tasks, 'by hand, K rows' and our engine"):
        check_methods(work, batch, **NO_PEERS)


@pytest.mark.parametrize('backbone', [VIT, CONV], ids=['vit', 'conv'])
@pytest.mark.parametrize('name', OURS)
def test_flops_are_at_the_floor(name, backbone):
    work = micro(4, backbone)
    batch = work.make_batch()
    system = build_ours(name, work, batch)
    system.step()
    parts = Parts(system.model, batch)
    length = parts.losses_and_features()[1].numel() if system.family == 'features' else sum(parts.sizes)
    least, most = flop_floor(system.family, flop_parts(work, batch), work.num_tasks, length)
    assert least <= count_flops(system.step) <= most


def test_the_floor_is_that_of_a_step_by_hand():
    work = micro()
    batch = work.make_batch()
    for features, family in ((False, 'rows'), (True, 'features')):
        system = build_hand(features, work, batch)
        length = Parts(system.model, batch).losses_and_features()[1].numel() if features else 0
        least, most = flop_floor(family, flop_parts(work, batch), work.num_tasks, length)
        assert least <= count_flops(system.step) <= most


@pytest.fixture(scope='module')
def setting():
    return measure('vit', micro(), NO_PEERS, 0, 0)


def test_all_figures_are_there_and_all_targets_but_time_are_looked_at(setting):
    assert set(setting['systems']) == {*OURS, 'by hand, K rows', 'by hand, features'}
    assert all(system['peak_bytes'] > 0 for system in setting['systems'].values())
    targets = [check.target for check in check_setting(setting)]
    assert sum('FLOPs' in target for target in targets) == 9
    assert sum('peak memory' in target for target in targets) == 8  # there is none at the feature level
    assert all(check.ok for check in check_setting(setting) if 'FLOPs' in check.target)


def test_targets_can_be_missed(setting):
    setting = copy.deepcopy(setting)
    systems = setting['systems']
    seconds = dict(gd=1.0, uw=1.2, upgrad=4.5) | {'by hand, K rows': 4.0, 'libmtl pcgrad': 4.4}
    by_hand, libmtl = 'upgrad: time <= 1.03 x by hand', 'upgrad: time <= 1.00 x libmtl'
    systems['libmtl pcgrad'] = dict(systems['pcgrad'], ours=False)
    setting['times'] = {name: [dict(cpu=value)] * 2 for name, value in seconds.items()}
    systems['upgrad']['flops'] += setting['flops']['backward']
    systems['uw']['peak_bytes'] = 2 * systems['gd']['peak_bytes']
    missed = [check.target for check in check_setting(setting) if not check.ok]
    for target in ('upgrad: FLOPs', 'uw: peak', 'uw: time <= 1.10 x gd', by_hand, libmtl):
        assert any(target in each for each in missed), target


def test_a_run_goes_on_where_it_stopped_and_profiles_what_is_too_slow(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(methods, 'load_peers', lambda console: NO_PEERS)
    monkeypatch.setattr(method_results, 'TARGET_TASKS', (2,))
    out = tmp_path / 'methods.json'
    args = ['--networks', 'conv', '--num-tasks', '2', '--image-size', '32', '--rounds', '0', '--out', str(out)]
    assert main(args) in (0, 1)
    assert 'profile' not in capsys.readouterr().out
    results = json.loads(out.read_text())
    results['settings']['conv K=2']['times'] = {'upgrad': [dict(cpu=4.5)] * 2, 'by hand, K rows': [dict(cpu=4.0)] * 2}
    out.write_text(json.dumps(results))
    measured = []
    monkeypatch.setattr(methods, 'measure', lambda *args: measured.append(args))
    assert main(args) in (0, 1)
    assert not measured
    told = ' '.join(capsys.readouterr().out.split())
    assert re.search(
        r'time <= 1.03 x by hand, K rows; found 1.1.* profile: [0-9]+ against [0-9]+ ms: aten::\w+ [+-]', told
    )


@pytest.mark.parametrize(('load', 'package'), [(load_torchjd, 'torchjd'), (load_libmtl, 'LibMTL')])
def test_a_library_that_is_not_there_is_named(load, package):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f'{package} is installed')
    with pytest.raises(PeerMissingError, match=f"left out: No module named '{package}"):
        load()


def test_missing_libraries_leave_the_rest():
    work = micro(2)
    systems = build_all(work, work.make_batch(), NO_PEERS)
    assert {system.label for system in systems} == {*OURS, 'by hand, features', 'by hand, K rows'}


def test_steps_that_are_compared_lie_side_by_side():
    work = micro(2)
    families = [system.family for system in build_all(work, work.make_batch(), NO_PEERS)]
    assert families == sorted(families, key=families.index)


# TorchJD's default differentiates all losses at once by vmap, for which torch lacks a rule of its attention.
@pytest.mark.filterwarnings('ignore:There is a performance drop:UserWarning')
def test_libraries_make_our_updates():
    peers = {}
    for name, load in (('torchjd', load_torchjd), ('libmtl', load_libmtl)):
        try:
            peers[name] = load()
        except PeerMissingError as error:
            pytest.skip(str(error))
    work = micro(5)
    batch = work.make_batch()
    assert max(check_methods(work, batch, **peers).values()) <= TOLERANCE
    torch.manual_seed(0)
    for system in build_all(work, batch, peers):
        system.step()
