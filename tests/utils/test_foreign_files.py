"""Text, JSON and checkpoints of other programs: one sentence with the name of the file, whatever is in them."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.runner import load_checkpoint

from mtl_plugins.config.loading import load_config, read_config
from mtl_plugins.datasets.files import read_lines
from mtl_plugins.datasets.files.provenance import read_provenance
from mtl_plugins.datasets.pascal_context.layout import part_list_file
from mtl_plugins.datasets.pascal_context.part_lists import read_part_lists
from mtl_plugins.datasets.verification.manifest import load_manifest
from mtl_plugins.errors import UserError
from mtl_plugins.evaluation.baselines import load_baselines
from mtl_plugins.evaluation.metrics.edges import read_image_ids
from mtl_plugins.experiments.compare import RecordStore
from mtl_plugins.experiments.report import Comparison
from mtl_plugins.experiments.report.writing import pairs_csv, report_content, runs_csv, summary_csv
from mtl_plugins.inference.loading import _read
from mtl_plugins.runtime.checkpoints.loaders import safe_loading
from mtl_plugins.runtime.hooks.metrics_file import read_metrics
from mtl_plugins.utils.json_files import read_json

DEEP = '[' * 100_000
LISTS = {
    'UTF-16': '0001\n0002\n'.encode('utf-16'),
    'UTF-16, big-endian': '\ufeff0001\n'.encode('utf-16-be'),
    'UTF-16 without mark': '0001\n0002\n'.encode('utf-16-le'),
    'Latin 1': 'Küche\n'.encode('latin-1'),
    'binary': bytes(range(256)),
    'a PNG': b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
}


@pytest.mark.parametrize('content', LISTS.values(), ids=LISTS)
@pytest.mark.parametrize('read', [read_lines, read_image_ids])
def test_lists_that_are_no_text_are_refused(tmp_path, read, content):
    path = tmp_path / 'train.txt'
    path.write_bytes(content)
    with pytest.raises(UserError, match='UTF-8') as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('read', [read_lines, read_image_ids])
def test_lists_with_a_byte_order_mark_are_read(tmp_path, read):
    path = tmp_path / 'train.txt'
    path.write_bytes('\ufeff0001\r\n0002\r\n'.encode())
    assert sorted(read(path)) == ['0001', '0002']


JSON = {
    'nested too deeply': DEEP,
    'no JSON': '{"a": ',
    'a list': '[1, 2]',
    'a number': '3',
    'nothing': '',
    'another object': '{"a": {"b": []}}',
    'UTF-16': '{"a": 1}'.encode('utf-16'),
}


@pytest.mark.parametrize('content', JSON.values(), ids=JSON)
def test_json_of_another_kind_is_named_or_left_alone(tmp_path, content):
    path = tmp_path / 'x.json'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    lists = tmp_path / part_list_file('train')
    lists.parent.mkdir(parents=True)
    lists.write_bytes(path.read_bytes())
    (tmp_path / 'fixture.json').write_bytes(path.read_bytes())
    for read in (load_baselines, lambda path: load_manifest(path, 'nyud'), lambda path: RecordStore(path, None)):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert content != JSON['UTF-16'] or 'is no text in UTF-8' in str(caught.value)
    try:
        assert isinstance(read_json(path), dict)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017
    if content != JSON['another object']:
        with pytest.raises(UserError) as caught:
            read_part_lists(tmp_path, 'train')
        assert str(lists) in str(caught.value)
    assert read_provenance(tmp_path) is None
    assert read_metrics(path) == []


def _places(node, place=()):
    yield place
    for key, part in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _places(part, (*place, key))


def test_results_that_somebody_edited_are_named_or_reported(tmp_path):
    """Every entry of a results file in turn is one of another kind, or gone: a sentence, or a report all the same."""
    task = dict(title='Depth', metric='depth/RMSE', unit='m', higher_is_better=False)
    run = dict(
        variant='gd', method='gd', options=dict(passes=2), seed=0, task=None, settings='x',
        curve=[dict(iter=2, metrics={'depth/RMSE': 0.5}, cost=dict(forwards=2, backwards=2))],
        metrics={'depth/RMSE': 0.5}, groups=dict(mean=1.0, curve=[[1, 1]]),
        affinity=dict(iter=2, tasks=['depth'], matrix=[[0.1]]),
        environment=dict(commit='a', torch='2', hardware=dict(cpu='x', gpus=['y'])),
    )  # fmt: skip
    content = dict(version=1, config='x.py', tasks=dict(depth=task), max_iters=2, runs=[run])
    path = tmp_path / 'results.json'
    refused = 0
    for place in _places(content):
        for value in (..., None, 'x', 5, True, [], [1], {}):
            edited = json.loads(json.dumps(content))
            *way, last = ('all', *place)
            node = outer = {'all': edited}
            for key in way:
                node = node[key]
            node[last] = value
            if value is ...:
                del node[last]
            path.write_text(json.dumps(outer.get('all')))
            try:
                store = RecordStore(path, None)
                if store.records and {'config', 'tasks'} <= set(store.header):
                    comparison = Comparison(store.header, store.records)
                    report_content(comparison, drawn=False)
                    runs_csv(comparison), summary_csv(comparison), pairs_csv(comparison)
            except UserError as error:
                refused += 1
                assert str(path) in str(error)  # noqa: PT017
    assert refused > 100


@pytest.mark.parametrize('missing', ['counts', 'size'])
def test_a_marker_without_its_entries_is_none_of_ours(tmp_path, missing):
    content = dict(rendered_by='mtl_plugins', format=1, counts=dict(train=1), size=[3, 4])
    (tmp_path / 'fixture.json').write_text(json.dumps(content))
    assert read_provenance(tmp_path)
    (tmp_path / 'fixture.json').write_text(json.dumps({**content, missing: None}))
    assert read_provenance(tmp_path) is None


@pytest.mark.parametrize('place', ['own', 'base', 'base of base'])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'latin-1'])
def test_configs_that_are_no_plain_utf8_are_named(tmp_path, place, encoding):
    names = {'own': ('own.py',), 'base': ('base.py', 'own.py'), 'base of base': ('first.py', 'base.py', 'own.py')}[
        place
    ]
    for number, name in enumerate(names):
        text = f'x{number} = 1  # ü\n' + (f'_base_ = ["{names[number - 1]}"]\n' if number else '')
        (tmp_path / name).write_text(text, encoding=encoding if number == 0 else 'utf-8')
    with pytest.raises(UserError, match='UTF-8') as caught:
        load_config(tmp_path / 'own.py')
    assert str(tmp_path / names[0]) in str(caught.value)


@pytest.mark.parametrize(('module', 'told'), [('nope_nope', ''), ('mmdet.nope', ' (of onedl-mmdetection')])
def test_a_module_of_custom_imports_that_is_missing_is_named(tmp_path, module, told):
    (tmp_path / 'a.py').write_text(f'custom_imports = dict(imports=[{module!r}], allow_failed_imports=False)\n')
    missing = module.partition('.')[0]
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / 'a.py')
    text = str(caught.value)
    assert text.startswith(f'config {tmp_path / "a.py"} cannot be read: custom_imports: ')
    assert missing in text
    assert told in text
    assert '\n' not in text


@pytest.mark.parametrize('value', ['C:\\data', 'C:\\new\\table', '\\\\server\\share', 'a\nb'])
@pytest.mark.parametrize('base', [False, True])
def test_values_of_the_environment_that_would_be_altered_are_named(tmp_path, monkeypatch, value, base):
    (tmp_path / 'a.py').write_text("data_root = '{{$MTL_TEST_ROOT:/default}}/images'\n")
    (tmp_path / 'b.py').write_text("_base_ = 'a.py'\n")
    config = tmp_path / ('b.py' if base else 'a.py')
    assert load_config(config).data_root == '/default/images'
    monkeypatch.setenv('MTL_TEST_ROOT', value)
    with pytest.raises(UserError, match=r'a\.py: the environment variable MTL_TEST_ROOT='):
        load_config(config)
    monkeypatch.setenv('MTL_TEST_ROOT', 'C:/data')
    assert load_config(config).data_root == 'C:/data/images'


CHECKPOINTS = {
    'a list': [1, 2],
    'a tensor': torch.ones(3),
    'a number': 3,
    'an empty dict': {},
    'a dict without weights': {'epoch': 3, 'meta': {}},
    'weights that are a list': {'state_dict': [torch.ones(2)]},
    'weights that are empty': {'state_dict': {}},
    'weights that are none': {'state_dict': None},
    'names that are numbers': {'state_dict': {0: torch.ones(2)}},
}


@pytest.mark.parametrize(
    'name',
    ['a list', 'a tensor', 'a number', 'weights that are a list', 'weights that are none', 'names that are numbers'],
)
def test_training_and_evaluation_name_them_too(tmp_path, name):
    torch.save(CHECKPOINTS[name], tmp_path / 'a.pth')
    with safe_loading(), pytest.raises(UserError, match='holds no weights') as caught:
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'a.pth'))
    assert str(tmp_path / 'a.pth') in str(caught.value)


@pytest.mark.parametrize('content', CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints_without_weights_are_named(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError) as caught:
        _read(tmp_path / 'a.pth')
    assert str(tmp_path / 'a.pth') in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('empty.yaml', '', 'expected names and values, but it holds NoneType'),
        ('list.yaml', '- a\n- b\n', 'expected names and values, but it holds list'),
        ('list.json', '[1, 2]', 'expected names and values, but it holds list'),
        ('itself.py', '_base_ = ["./itself.py"]\n', r'is its own _base_ \(itself.py -> itself.py\)'),
    ],
)
def test_configs_of_another_kind_are_one_sentence(name, text, said, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_config(file)


def test_two_configs_that_are_the_base_of_each_other(tmp_path):
    for first, second in (('a', 'b'), ('b', 'a')):
        (tmp_path / f'{first}.py').write_text(f"_base_ = ['./{second}.py']\n")
    with pytest.raises(UserError, match=r'is its own _base_ \(a.py -> b.py -> a.py\)'):
        read_config(tmp_path / 'a.py')
