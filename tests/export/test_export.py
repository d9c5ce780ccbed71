"""Exported files compute what the model computes."""

import json
import math

import numpy as np
import pytest
import torch

from mtl_plugins.cli import export
from mtl_plugins.export import (
    ExportedTasks,
    compare_with_file,
    differences,
    export_program,
    save_program,
    test_images,
    verification,
)
from mtl_plugins.inference.loading import find_config, load_model
from mtl_plugins.models import MultiTaskSegmentor
from mtl_plugins.registry import MODELS
from tests.inference.inference_cases import SIZE, TASKS, photos, tiny

__all__ = ['photos', 'tiny']  # fixtures
NEEDS = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'), 'pt2': ()}
FORMATS = pytest.mark.parametrize('kind', ['onnx', 'pt2'])


def need(kind):
    for package in NEEDS[kind]:
        pytest.importorskip(package)


def run_onnx(path, images):
    """Outputs by name, through onnxruntime alone."""
    session = pytest.importorskip('onnxruntime').InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: images.numpy()})))


@FORMATS
def test_the_tool_writes_checks_and_describes(kind, tiny, tmp_path, capsys):
    need(kind)
    path = tmp_path / 'deep' / f'model.{kind}'
    assert export.main([*tiny, '--out', str(path)]) == 0
    printed = capsys.readouterr().out
    assert 'agrees to 0.0001' in printed
    about = json.loads((tmp_path / 'deep' / f'model.{kind}.json').read_text())
    assert about['inputs']['image'] == dict(shape=['N', 3, *SIZE], dtype='float32', colours='RGB', range=[0, 255])
    assert tuple(about['outputs']) == TASKS
    assert about['outputs']['semseg']['classes'] == ['wall', 'floor', 'cat', 'cup']
    assert about['outputs']['depth']['values'] == 'metres, float32'


@FORMATS
@pytest.mark.parametrize(('size', 'raw'), [((64, 40), True), (SIZE, False)])
def test_every_batch_agrees_with_pytorch(kind, size, raw, tiny, tmp_path):
    need(kind)
    model, _ = load_model(find_config(tiny[0]), tiny[1])
    module = ExportedTasks(model, size, decoded=not raw)
    path = tmp_path / f'model.{kind}'
    save_program(export_program(module), module.tasks, path, kind)
    worst = compare_with_file(model, path, kind, size, decoded=not raw)
    assert tuple(worst) == TASKS
    assert max(worst.values()) < 1e-4
    if kind == 'onnx':
        images = 255 * torch.rand(5, 3, *size)
        outputs = run_onnx(path, images)
        with torch.no_grad():
            expected = model(model.data_preprocessor(dict(inputs=list(images.flip(1))))['inputs'], mode='tensor')
        for task, value in outputs.items():
            want = expected[task] if raw else model.heads[task].decode(expected[task])
            np.testing.assert_allclose(value, want.numpy(), atol=1e-4, rtol=1e-4, err_msg=task)


def test_the_model_itself_stays_as_it_was(tiny):
    model, _ = load_model(find_config(tiny[0]), tiny[1])
    images = torch.rand(2, 3, 40, 64)  # another size than the exported one
    with torch.no_grad():
        before = model(images, mode='tensor')
        ExportedTasks(model, (64, 64), ['depth'])
        after = model(images, mode='tensor')
    assert all(torch.equal(before[task], after[task]) for task in TASKS)


def test_a_wrong_file_is_found_out(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, 'TOLERANCE', -1.0)
    assert export.main([*tiny, '--out', str(tmp_path / 'model.pt2'), '--tasks', 'depth']) == 1
    assert 'does NOT agree with PyTorch to -1: depth' in capsys.readouterr().out


def test_an_output_that_is_no_number_is_a_difference(tiny, monkeypatch):
    model, _ = load_model(find_config(tiny[0]), tiny[1])
    found = iter([0.1, math.nan, 0.2])  # one per batch
    monkeypatch.setattr(verification, 'differences', lambda *args: [('depth', next(found))])
    monkeypatch.setattr(verification, '_pt2_runner', lambda path: lambda images: {})
    assert math.isnan(compare_with_file(model, 'model.pt2', 'pt2', SIZE)['depth'])


def test_what_the_graph_leaves_out_of_test_cfg_is_told(tiny, monkeypatch):
    told = []
    monkeypatch.setattr('mtl_plugins.export.program.print_log', lambda text, **_: told.append(text))
    for options in (
        {},
        {'model.test_cfg': dict(flip_tta=True)},
        {'model.test_cfg': dict(mode='slide', crop_size=SIZE)},
    ):
        model, _ = load_model(find_config(tiny[0], options), tiny[1])
        ExportedTasks(model, SIZE)
        assert len(told) == bool(options)
        told.clear()


def test_differences_see_every_kind_of_error(tiny):
    model, _ = load_model(find_config(tiny[0]), tiny[1])
    raw = {'semseg': torch.tensor([0.0, 0.5, 0.50001, 0.2]).view(1, 4, 1, 1), 'depth': torch.full((1, 1, 1, 1), 20.0)}
    for index, expected in ((2, 0.0), (1, 1e-5), (3, 0.30001), (0, 0.50001)):
        (found,) = differences(model, raw, {'semseg': torch.tensor(index).view(1, 1, 1, 1)}, decoded=True)
        assert found == ('semseg', pytest.approx(expected, abs=2e-6))
    (found,) = differences(model, raw, {'depth': torch.full((1, 1, 1, 1), 21.0)}, decoded=True)
    assert found == ('depth', pytest.approx(0.05))


def test_a_model_for_bgr_takes_rgb_as_well(tiny):
    options = {'model.data_preprocessor.bgr_to_rgb': False, 'model.data_preprocessor.mean': (10.0, 60.0, 110.0)}
    model, _ = load_model(find_config(tiny[0], options), tiny[1])
    images = test_images(SIZE)[1]
    with torch.no_grad():
        got = ExportedTasks(model, SIZE, decoded=False)(images)
        expected = model(model.data_preprocessor(dict(inputs=list(images.flip(1))))['inputs'], mode='tensor')
    for task in TASKS:
        torch.testing.assert_close(got[task], expected[task])


@pytest.mark.slow
@FORMATS
@pytest.mark.parametrize('decoder', ['invpt', 'mti_net'])
def test_decoders_with_a_map_per_task(kind, decoder, tmp_path):
    need(kind)
    names = {'invpt': 'gd_invpt_vit-micro_8b-2k_rooms-96', 'mti_net': 'gd_mti-net_hrnet-micro_8b-2k_rooms-96'}
    cfg = find_config(names[decoder])
    torch.manual_seed(0)
    torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'model.pth')
    path = tmp_path / f'model.{kind}'
    assert export.main([names[decoder], str(tmp_path / 'model.pth'), '--out', str(path), '--size', '96', '128']) == 0


def test_wrong_arguments_are_named(tiny, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r'must be multiples of \(8, 8\), but got \(30, 48\); the next are \(32, 48\)'):
        export.main([*tiny, '--out', str(tmp_path / 'a.onnx'), '--size', '30', '48'])
    with pytest.raises(KeyError, match='no head for sal'):
        export.main([*tiny, '--out', str(tmp_path / 'a.onnx'), '--tasks', 'sal'])
    with pytest.raises(SystemExit):
        export.main([*tiny, '--out', str(tmp_path / 'a.trt')])
    from mtl_plugins.export import program

    monkeypatch.setattr(program, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'needs onnx and onnxscript: pip install "mtl-plugins\[export\]"'):
        export.main([*tiny, '--out', str(tmp_path / 'a.onnx')])


@pytest.mark.slow
def test_networks_of_timm():
    """A pyramid, rotary positions, and adapters of every task."""
    tiny = dict(embed_dim=16, depth=2, num_heads=2)
    for name, settings in (
        ('resnet10t', {}),
        ('vit_small_patch16_dinov3', tiny),
        ('vit_tiny_patch16_224', dict(tiny, adapters=dict(rank=1, task_rank=1))),
    ):
        torch.manual_seed(0)
        backbone = dict(type='mtl_plugins.TimmBackbone', model_name=name, **settings)
        preprocessor = dict(type='mtl_plugins.MultiTaskDataPreProcessor')
        model = MultiTaskSegmentor(backbone, dict(depth=dict(), sal=dict()), data_preprocessor=preprocessor).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        module = ExportedTasks(model, (32, 64))
        images = 255 * torch.rand(3, 3, 32, 64)
        outputs, expected = export_program(module).module()(images), module(images)
        for task in ('depth', 'sal'):
            torch.testing.assert_close(outputs[task], expected[task], rtol=1e-4, atol=1e-5)
