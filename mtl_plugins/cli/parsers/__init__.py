"""The options of the commands, so that ``--help`` and wrong options need nothing else."""

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def parser_of(command: str) -> ArgumentParser:
    """The parser of a command."""
    return import_module(f'{__name__}.{command.replace("-", "_")}').build_parser()


def command(main: Callable[[Any, Namespace], int]) -> Callable[[Sequence[str] | Namespace | None], int]:
    """Let the ``main(parser, args)`` of a command be called with words, by default those of the program.

    Who has parsed them already, to see whether they are right, hands over the outcome.
    """

    @functools.wraps(main)
    def call(argv: Sequence[str] | Namespace | None = None) -> int:
        parser = parser_of(main.__module__.rpartition('.')[2])
        return main(parser, argv if isinstance(argv, Namespace) else parser.parse_args(argv))

    return call
