"""Command lines that take ``--cfg-options KEY=VALUE ...`` without swallowing what follows."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from .arguments import given

OPTION = '--cfg-options'
_CLOSING = {'[': ']', '(': ')', '{': '}'}
_WORDS = {'true': True, 'True': True, 'TRUE': True, 'false': False, 'False': False, 'FALSE': False}
_WORDS |= {'None': None, 'null': None}

_ENTRIES = (
    ('work_dir', 'work_dir'),
    ('seed', 'randomness.seed'),
    ('resume', 'resume'),
    ('resume_from', 'resume'),
    ('resume_from', 'load_from'),
    ('launcher', 'launcher'),
    ('precision', 'optim_wrapper.precision'),
)
"""Options with the entries of the config that they set."""
_NOT_GIVEN = object()


class CommaList(list):
    """A list that was written without brackets, ``a,b``: where the config has text, it is this ``text`` instead."""

    def __init__(self, items: Sequence[Any], text: str) -> None:
        super().__init__(items)
        self.text = text


def parse_value(text: str) -> Any:
    """The value that a text on the command line means.

    Numbers (what has an underscore is a name), ``True``, ``False`` and ``None`` (or as in JSON); ``"quoted"`` text,
    kept as it is; ``[lists]``, ``(tuples)`` and ``a,b`` (:class:`CommaList`); ``{"key": value}`` and
    ``dict(key=value)``. Inside brackets, quotes may be left out, since a shell takes them away. All else is text, with
    its spaces and single brackets.

    Raises:
        ValueError: If brackets or quotes do not match or are nested too deeply, or an entry of a dict has no key.
    """
    try:
        return _parse(text.strip())
    except RecursionError:
        raise ValueError('its brackets are nested too deeply') from None


def _parse(text: str) -> Any:
    plain = text[:1] not in ('"', "'", *_CLOSING) and not text.startswith('dict(') and ',' not in text
    parts = [text] if plain else _split(text)
    if len(parts) > 1:
        return CommaList([_parse_one(part) for part in parts if part], text)
    return _parse_one(text)


def _parse_one(text: str) -> Any:
    if text[:1] in ('"', "'") and text.endswith(text[0]) and text.count(text[0]) == 2:
        return text[1:-1]
    if text.startswith('dict(') and text.endswith(')'):
        return dict(_entry(part, '=') for part in _split(text[5:-1]) if part)
    if text[:1] in _CLOSING and text.endswith(_CLOSING[text[0]]):
        parts = [part for part in _split(text[1:-1]) if part]
        if text[0] == '{':
            return dict(_entry(part, ':') for part in parts)
        return (list if text[0] == '[' else tuple)(map(_parse_one, parts))
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float) if '_' not in text else ():
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _entry(text: str, sign: str) -> tuple[Any, Any]:
    key, *value = _split(text, sign, 1)
    if not key or not value:
        raise ValueError(f'{text!r} is no entry KEY{sign}VALUE of a dict')
    return (_parse_one(key) if sign == ':' else key), _parse_one(value[0])


def _split(text: str, sign: str = ',', most: int = -1) -> list[str]:
    """Split at signs outside of brackets and quotes, at most ``most`` times."""
    parts, start, before = [], 0, ''
    open_brackets: list[str] = []
    quote = ''
    for place, letter in enumerate(text):
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '"\'' and (not before or before in '[({,:='):
            quote = letter
        elif letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif letter in _CLOSING.values():
            if not open_brackets or open_brackets.pop() != letter:
                raise ValueError(f'the brackets of {text!r} do not match')
        elif letter == sign and not open_brackets and len(parts) != most:
            parts.append(text[start:place].strip())
            start = place + 1
        before = before if letter.isspace() else letter
    if open_brackets or quote:
        raise ValueError(f'the {"brackets" if open_brackets else "quotes"} of {text!r} do not match')
    return [*parts, text[start:].strip()]


def _entry_of(options: dict[str, Any], name: str) -> Any:
    """What options make of an entry, by its own name or in a dict for what it is part of."""
    parts = name.split('.')
    for depth in range(len(parts), 0, -1):
        node = options.get('.'.join(parts[:depth]), _NOT_GIVEN)
        for part in parts[depth:]:
            node = node.get(part, _NOT_GIVEN) if isinstance(node, dict) else _NOT_GIVEN
        if node is not _NOT_GIVEN:
            return node
    return _NOT_GIVEN


class _Collect(argparse.Action):
    """Gathers ``KEY=VALUE`` in a flat dict."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, _, value = text.partition('=')
            if not all(key.split('.')):
                parser.error(f'argument {OPTION}: {key!r} in {text!r} is no name of a setting, such as a.b.c')
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                parser.error(
                    f'argument {OPTION}: {key}: {error}; what is text and nothing else stands in quotes that the shell '
                    f"""leaves, {key}='"..."'"""
                )
        setattr(namespace, self.dest, options)
        namespace.cfg_words += tuple(values)


class ConfigArgumentParser(argparse.ArgumentParser):
    """An argument parser with the option ``--cfg-options``.

    As in every OpenMMLab project, it takes several ``KEY=VALUE`` at once and may be repeated. Unlike there, it stops at
    the first argument that is not of this form, so that ``--cfg-options a=1 CONFIG`` works. The outcome is
    ``args.cfg_options``, a flat dict of what :func:`parse_value` made of the values, or None. To be handed on, the
    ``KEY=VALUE`` are ``args.cfg_words`` as they were typed, and the whole line is ``args.words``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.register('type', None, given)  # of arguments without a type: an empty text is no name and no file
        self.set_defaults(cfg_words=())
        self.add_argument(
            OPTION,
            nargs='+',
            action=_Collect,
            metavar='KEY=VALUE',
            help='settings that override those of the config, e.g. train_dataloader.batch_size=4 model.x="[1, 2]"',
        )

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, see :class:`argparse.ArgumentParser`."""
        words = list(sys.argv[1:] if args is None else args)
        found, rest = super().parse_known_args(self._one_by_one(words), namespace)
        found.words = words
        for name, entry in _ENTRIES:
            value, other = getattr(found, name, None), _entry_of(found.cfg_options or {}, entry)
            told = value is not None and value is not False and other is not _NOT_GIVEN
            if told and str(True if entry == 'resume' else value) != str(other):
                option = f'--{name.replace("_", "-")}'
                self.error(
                    f'{option} ({value}) and {OPTION} {entry}={other} contradict each other; leave one of them out'
                )
        return found, rest

    def refuse_idle(self, args: argparse.Namespace, used: Any, needed: str, *options: str) -> None:
        """End the program if some of ``options`` were given, of which nothing comes without what is ``needed``."""
        for option in () if used else options:
            if any(word == option or word.startswith(f'{option}=') for word in args.words):
                self.error(f'{option} is without effect where there is no {needed}; leave it out')

    def _one_by_one(self, args: Sequence[str]) -> list[str]:
        """Write ``--cfg-options a=1 b=2 c`` as ``--cfg-options=a=1 --cfg-options=b=2 c``."""
        rewritten, inside, empty = [], False, False
        for arg in args:
            if arg == OPTION:
                if empty:
                    self._refuse(arg)
                inside = empty = True
            elif inside and '=' in arg and not arg.startswith('-'):
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
