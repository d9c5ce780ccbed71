import io
import os
import pickle
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from mtl_plugins.errors import UserError
from mtl_plugins.runtime.checkpoints import (
    CorruptCheckpointError,
    UnsafeCheckpointError,
    register_safe_loaders,
    safe_torch_load,
    trust_checkpoints,
    why_not_resumable,
)

register_safe_loaders()


class Payload:
    """Creates the file ``path`` when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class BoundMethod:
    """Needs ``getattr`` to load, as MMEngine's own files do; with it everything could be reached."""

    def __reduce__(self):
        return getattr, (torch.nn.Module, 'train')


def _protocol_4(checkpoint, path):
    """A ``torch.save`` archive whose pickle uses instructions (STACK_GLOBAL) that torch itself does not write."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', pickle.dumps(checkpoint, protocol=4))
        archive.writestr('archive/version', '3\n')
        archive.writestr('archive/byteorder', sys.byteorder)


SAVERS = dict(
    zip=torch.save,
    old=partial(torch.save, _use_new_zipfile_serialization=False),
    protocol_4=_protocol_4,
    pickle=lambda checkpoint, path: path.write_bytes(pickle.dumps(checkpoint)),
    pickle_0=lambda checkpoint, path: path.write_bytes(pickle.dumps(checkpoint, protocol=0)),
)


@pytest.fixture
def evil(tmp_path):
    return tmp_path / 'evil'


@pytest.mark.parametrize('saver', SAVERS)
def test_code_is_refused_by_name_and_not_run(tmp_path, evil, saver):
    path = tmp_path / 'a.pth'
    SAVERS[saver](dict(state_dict={}, x=Payload(evil)), path)
    for load in (
        lambda: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
        lambda: load_checkpoint(torch.nn.Linear(1, 1), str(path)),
        lambda: safe_torch_load(io.BytesIO(path.read_bytes()), name=str(path)),
    ):
        with pytest.raises(UnsafeCheckpointError) as caught:
            load()
        assert caught.value.global_names == (f'{os.mkdir.__module__}.mkdir',)
        for part in ('posix.mkdir', str(path), '--trust-checkpoint'):
            assert part in str(caught.value)
        assert 'weights_only' not in str(caught.value)  # torch's text advises to load unsafely
    assert f'{os.mkdir.__module__}.mkdir' in why_not_resumable(path)
    assert not evil.exists()


def test_getattr_is_not_allowed(tmp_path):
    torch.save(dict(x=BoundMethod()), tmp_path / 'a.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'builtins\.getattr'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))


def test_trust_is_an_explicit_choice_that_ends(tmp_path, evil):
    path = tmp_path / 'a.pth'
    torch.save(dict(x=Payload(evil), y=1), path)
    with trust_checkpoints(True):
        assert safe_torch_load(path)['y'] == 1
    assert evil.is_dir()
    with pytest.raises(UnsafeCheckpointError):
        safe_torch_load(path)
    setting = trust_checkpoints(True)
    evil.rmdir()
    safe_torch_load(path)
    assert evil.is_dir()
    with setting:
        pass
    with pytest.raises(UnsafeCheckpointError):
        safe_torch_load(path)
    with pytest.raises(TypeError, match='trusted must be True or False'):
        trust_checkpoints('yes')


def test_download(tmp_path, evil, monkeypatch):
    site = tmp_path / 'site'
    site.mkdir()
    torch.save(dict(x=Payload(evil)), site / 'evil.pth')
    torch.save(dict(x=torch.ones(2)), site / 'good.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f'http://127.0.0.1:{server.server_port}'
            assert CheckpointLoader.load_checkpoint(f'{address}/good.pth')['x'].tolist() == [1, 1]
            with pytest.raises(UnsafeCheckpointError, match=rf'{address}/evil\.pth'):
                CheckpointLoader.load_checkpoint(f'{address}/evil.pth', 'cpu')
        finally:
            server.shutdown()
            thread.join()
    assert not evil.exists()
    # The second time it comes from the disk.
    assert CheckpointLoader.load_checkpoint(f'{address}/good.pth')['x'].tolist() == [1, 1]


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04 half a zip', b'\x80\x02}q', b'hello'])
def test_no_checkpoint(tmp_path, content):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r'a\.pth is no readable checkpoint .*: [A-Za-z]'):
        CheckpointLoader.load_checkpoint(str(path))


def test_truncated(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(x=torch.ones(1000)), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorruptCheckpointError, match=r'a\.pth is no readable checkpoint'):
        CheckpointLoader.load_checkpoint(str(path))


def test_one_bit_of_the_weights(tmp_path):
    """torch itself would load it."""
    weights = torch.arange(64.0)
    torch.save(dict(state_dict=dict(weight=weights)), tmp_path / 'bit.pth')
    content = bytearray((tmp_path / 'bit.pth').read_bytes())
    content[content.find(weights.numpy().tobytes()) + 9] ^= 1
    (tmp_path / 'bit.pth').write_bytes(content)
    for file in (tmp_path / 'bit.pth', io.BytesIO(content)):
        with pytest.raises(CorruptCheckpointError, match=r'no readable checkpoint .* the checksum of .* differs'):
            safe_torch_load(file, name='bit.pth')
    with pytest.raises(CorruptCheckpointError, match='checksum'):
        load_checkpoint(torch.nn.Linear(64, 1), str(tmp_path / 'bit.pth'))


def test_a_file_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(weight=torch.ones(2)), tmp_path / 'plain.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert safe_torch_load(tmp_path / 'plain.pth')['weight'].tolist() == [1, 1]


@pytest.mark.parametrize('part', ['meta', 'optimizer', 'message_hub', 'param_schedulers'])
def test_parts_of_another_kind(tmp_path, part):
    for content in ((1, 2), 'x', 5, torch.ones(2)):
        torch.save({'state_dict': {}, part: content}, tmp_path / 'part.pth')
        with pytest.raises(UserError, match=rf'part\.pth is no checkpoint of MMEngine: its {part} is a '):
            load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'part.pth'))
    torch.save({part: torch.ones(2)}, tmp_path / 'part.pth')  # a parameter of that name
    load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'part.pth'))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))


def test_every_scheme_of_the_stack_is_replaced():
    foreign = {
        p: f.__module__ for p, f in CheckpointLoader._schemes.items() if not f.__module__.startswith('mtl_plugins')
    }
    assert foreign == {}


@pytest.mark.parametrize('name', ['torchvision://no_such', 'open-mmlab://no_such', 'mmcls://no_such'])
def test_unknown_published_model(name):
    with pytest.raises(KeyError, match="unknown model 'no_such'"):
        CheckpointLoader.load_checkpoint(name)


def test_a_text_is_refused_without_advice_to_run_it(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('# a text\n')
    with pytest.raises(CorruptCheckpointError) as caught:
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert 'weights_only' not in str(caught.value)
