"""Command lines that take ``--cfg-options KEY=VALUE ...`` without swallowing what follows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import DictAction

OPTION = '--cfg-options'


class ConfigArgumentParser(argparse.ArgumentParser):
    """An argument parser with the option ``--cfg-options``.

    As in every OpenMMLab project, it takes several ``KEY=VALUE`` at once and may be repeated. Unlike there, it stops at
    the first argument that is not of this form, so that ``--cfg-options a=1 CONFIG`` works. The outcome is
    ``args.cfg_options``, a flat dict for :meth:`mmengine.config.Config.merge_from_dict`, or None.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.add_argument(
            OPTION,
            nargs='+',
            action=DictAction,
            metavar='KEY=VALUE',
            help='settings that override those of the config, e.g. train_dataloader.batch_size=4 model.x="[1, 2]"',
        )

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, see :class:`argparse.ArgumentParser`."""
        return super().parse_known_args(self._one_by_one(sys.argv[1:] if args is None else args), namespace)

    def _one_by_one(self, args: Sequence[str]) -> list[str]:
        """Write ``--cfg-options a=1 b=2 c`` as ``--cfg-options=a=1 --cfg-options=b=2 c``."""
        rewritten, inside, empty = [], False, False
        for arg in args:
            if arg == OPTION:
                if empty:
                    self._refuse(arg)
                inside = empty = True
            elif inside and '=' in arg and not arg.startswith('-'):
                if any(arg.count(opening) != arg.count(closing) for opening, closing in ('[]', '()')):
                    self.error(f'argument {OPTION}: the brackets of {arg!r} do not match; quote the whole KEY=VALUE')
                rewritten.append(f'{OPTION}={arg}')
                empty = False
            else:
                if empty or (arg.startswith(f'{OPTION}=') and arg.count('=') < 2):
                    self._refuse(arg)
                inside = False
                rewritten.append(arg)
        if empty:
            self._refuse('nothing')
        return rewritten

    def _refuse(self, found: str) -> None:
        self.error(f'argument {OPTION}: expected KEY=VALUE, but got {found}')
