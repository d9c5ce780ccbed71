"""Is a command that a page shows one that works? Its program, its options, its paths."""

from __future__ import annotations

import argparse
import configparser
import importlib
import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from mtl_plugins import __main__ as command_line
from mtl_plugins.config import load_config

from .pages import ROOT

OUTSIDE = {
    '.', 'cd', 'cp', 'dnf', 'echo', 'export', 'git', 'kill', 'mkdir', 'mlflow', 'omnitools.download', 'pre-commit',
    'sbatch', 'scancel', 'source', 'sudo', 'tensorboard', 'unzip', 'wandb',
}  # fmt: skip
"""Programs and words of the shell that are not ours to check."""
PLACEHOLDERS = {'N': '2', 'KEY': 'gd', 'TASK': 'depth', 'H': '96', 'W': '96', 'PROCESSES': '2', 'F': '5', 'K': '4'}
"""What stands for a value in a command, and a value to parse the command with; others stay as they are."""
OUR_PATH = re.compile(r'^(?:configs|projects|tools|benchmarks|tests|docs)/\S+\.\w+$')


class Parsed(Exception):
    """Raised in the place of what a program would do after its arguments are parsed."""


def check(line: str) -> None:
    """Check one command line.

    Raises:
        AssertionError: If it would not work; the message says why.
    """
    words = shlex.split(re.sub(r'\[[\w ./]*\]$', '', line))  # "[options of tools/train.py]"
    for separator in ('&&', '||', '|', ';'):
        if separator in words:
            place = words.index(separator)
            check(shlex.join(words[:place]))
            check(shlex.join(words[place + 1 :]))
            return
    while words and re.match(r'^[A-Z_]+=', words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = words[0], words[1:]
    for word in arguments:
        if OUR_PATH.match(word):
            assert (ROOT / word).exists(), f'{word} does not exist'
    program = program.removeprefix('.venv/bin/')
    if program in ('python', 'python3', 'mtl-plugins'):
        _check_python(['-m', 'mtl_plugins', *arguments] if program == 'mtl-plugins' else arguments)
    elif program == 'pip':
        _check_pip(arguments)
    elif program == 'make':
        known = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), flags=re.MULTILINE)
        wanted = [word for word in arguments if '=' not in word]
        assert set(wanted) <= set(known), f'no such target: {wanted}'
    elif program == 'bash':
        _check_script(arguments)
    else:
        assert program in OUTSIDE, f'{program} is not known; a program of others belongs into OUTSIDE of {__name__}'


def _check_python(arguments: list[str]) -> None:
    if arguments[:1] == ['-m']:
        module, rest = arguments[1], arguments[2:]
        if module == 'mtl_plugins':
            if rest[0] == 'COMMAND':
                return
            if '|' in rest[0]:  # train|test|...
                assert set(rest[0].split('|')) <= set(command_line.COMMANDS)
                return
            assert rest[0] in command_line.COMMANDS, f'no such command: {rest[0]}'
            _check_options(lambda argv: command_line.run(rest[0], argv), rest[1:])
        elif module.split('.')[0] in ('benchmarks', 'projects', 'mtl_plugins'):
            _check_options(importlib.import_module(module).main, rest)
        else:
            assert importlib.util.find_spec(module.split('.')[0]), f'no module {module}'
    elif arguments[:1] != ['-c']:
        path, rest = ROOT / arguments[0], arguments[1:]
        assert path.is_file(), f'{arguments[0]} does not exist'
        _check_options(main_of(path), rest)


def _check_script(arguments: list[str]) -> None:
    """``dist_*.sh`` hand what follows their own arguments to a tool."""
    path, rest = ROOT / arguments[0], arguments[1:]
    assert path.is_file(), f'{arguments[0]} does not exist'
    tool, own = re.search(r'(train|test)\.sh$', path.name), {'train': ['CONFIG'], 'test': ['CONFIG', 'CHECKPOINT']}
    if tool and path.name.startswith('dist_'):
        count = len(own[tool[1]])
        assert int(PLACEHOLDERS.get(rest[count], rest[count])) > 0
        _check_options(lambda argv: command_line.run(tool[1], argv), rest[:count] + rest[count + 1 :])


def _check_pip(arguments: list[str]) -> None:
    extras = configparser.ConfigParser()
    extras.read(ROOT / 'setup.cfg')
    for word in arguments:
        wanted = re.fullmatch(r'(?:\.|mtl-plugins)\[([\w,]+)\]', word)
        if wanted:
            known = set(extras['options.extras_require'])
            assert set(wanted[1].split(',')) <= known, f'{word}: the extras are {sorted(known)}'
        if word.endswith('.txt'):
            assert (ROOT / word).is_file(), f'{word} does not exist'


def main_of(path: Path):
    """``main`` of a tool; those that are thin hand their arguments to the command line of the package."""
    text = path.read_text()
    command = re.search(r"run\('([\w-]+)', sys\.argv\[1:\]\)", text)
    if command:
        return lambda argv: command_line.run(command[1], argv)
    # By its own name, as a config imports it: what it registers cannot be registered twice.
    module = importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    if 'main()' in text and 'argparse' not in text:
        return lambda argv: module.main()
    return module.main


def _check_options(main, arguments: list[str]) -> None:
    if not arguments:  # a program that the text names
        return
    values = [PLACEHOLDERS.get(word, word) for word in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', _parse_and_stop)
        try:
            main(values)
        except Parsed as parsed:
            _check_settings(parsed.args[0])
        except SystemExit as stop:
            assert not stop.code, f'its options are refused: {arguments}'  # noqa: PT017


def _parse_and_stop(parser, args=None, namespace=None):
    parsed, rest = parser.parse_known_args(args, namespace)
    if rest:
        parser.error(f'unrecognized arguments: {" ".join(rest)}')
    raise Parsed(parsed)


def _check_settings(args: argparse.Namespace) -> None:
    """Settings of ``--cfg-options`` change something that the config has."""
    options, path = getattr(args, 'cfg_options', None), str(getattr(args, 'config', ''))
    if options and OUR_PATH.match(path):
        config = _config(path)
        for key in options:
            assert key.split('.')[0] in config, f'{path} has no {key}'


@cache
def _config(path: str):
    return load_config(ROOT / path)
