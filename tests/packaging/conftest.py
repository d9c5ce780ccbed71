import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='session')
def built(tmp_path_factory):
    """Wheel and sdist of the files of the repository, and which files those are.

    The wheel is made from the sdist, as an installation without a wheel would do it.
    """
    pytest.importorskip('build', reason='pip install -e ".[dev]"')
    folder = tmp_path_factory.mktemp('packaging')
    listing = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip('not a git checkout: which files belong to the repository is unknown')
    files = sorted(name for name in listed.stdout.split('\0') if name and (ROOT / name).exists())
    for name in files:
        (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / 'source' / name, follow_symlinks=False)
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(folder), str(folder / 'source')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (wheel,), (sdist,) = folder.glob('*.whl'), folder.glob('*.tar.gz')
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    with tarfile.open(sdist) as archive:
        in_sdist = {entry.name.partition('/')[2] for entry in archive.getmembers() if entry.isfile()}
    return SimpleNamespace(files=files, wheel=wheel, sdist=sdist, in_wheel=in_wheel, in_sdist=in_sdist)


@pytest.fixture(scope='session')
def installed(built, tmp_path_factory):
    """An environment with the wheel of the package, and the packages of this one, but nothing of the checkout."""
    root = tmp_path_factory.mktemp('environment') / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(root)], check=True, timeout=60)
    python = root / 'bin' / 'python'
    (packages,) = root.glob('lib/python*/site-packages')
    # A plain line adds the folder without reading its .pth files, so an editable installation in it stays unseen.
    theirs = next(path for path in sys.path if path.endswith('site-packages'))
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--python', str(python)]
    install = [*pip, 'install', '--quiet', '--no-deps', '--no-index', str(built.wheel)]
    # Where PYTHONPATH or the current folder show pip the metadata of the checkout, it thinks there is nothing to do.
    outside = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(install, cwd=root, env=outside, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (packages / 'packages_of_the_tests.pth').write_text(f'{theirs}\n')
    return SimpleNamespace(bin=root / 'bin', packages=packages)
