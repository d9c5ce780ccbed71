"""The CI file: only targets and paths that exist, every supported Python, no address of an index."""

import configparser
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / '.github/workflows/ci.yml').read_text()
JOBS = yaml.safe_load(TEXT)['jobs']
COMMANDS = [step['run'] for job in JOBS.values() for step in job['steps'] if 'run' in step]


def test_targets_and_paths_exist():
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE))
    wanted = {command.split()[1] for command in COMMANDS if command.startswith('make ')}
    assert {'lint', 'test', 'build', 'docs'} <= wanted <= targets
    assert all((ROOT / path).exists() for command in COMMANDS for path in re.findall(r'tests/[\w/.]+', command))


def test_every_supported_python_is_tested():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    versions = re.findall(r'Python :: (3\.\d+)', setup['metadata']['classifiers'])
    assert JOBS['tests']['strategy']['matrix']['python'] == versions


def test_no_index_is_named():
    assert '://' not in TEXT
    assert '--index-url' not in TEXT
