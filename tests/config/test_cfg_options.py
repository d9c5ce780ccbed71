import pytest

from mtl_plugins.config.cfg_options import ConfigArgumentParser


def parser():
    p = ConfigArgumentParser(prog='tool')
    p.add_argument('config')
    p.add_argument('--number', type=int)
    return p


@pytest.mark.parametrize(
    'line',
    [
        'CONFIG --number 3 --cfg-options a.b=1 c=[x,(1,2)]',
        '--cfg-options a.b=1 c=[x,(1,2)] CONFIG --number 3',
        '--cfg-options a.b=1 --cfg-options c=[x,(1,2)] --number 3 CONFIG',
        '--cfg-options=a.b=1 --number=3 --cfg-options c=[x,(1,2)] CONFIG',
    ],
)
def test_options_do_not_swallow_what_follows(line):
    args = parser().parse_args(line.split())
    assert (args.config, args.number) == ('CONFIG', 3)
    assert args.cfg_options == {'a.b': 1, 'c': ['x', (1, 2)]}


def test_without_options():
    assert parser().parse_args(['CONFIG']).cfg_options is None


def test_a_value_may_hold_an_equals_sign():
    assert parser().parse_args(['C', '--cfg-options', 'a=b=c']).cfg_options == {'a': 'b=c'}


@pytest.mark.parametrize(
    ('line', 'found'),
    [
        ('CONFIG --cfg-options', 'nothing'),
        ('--cfg-options CONFIG', 'CONFIG'),
        ('--cfg-options --number 3 CONFIG', '--number'),
        ('CONFIG --cfg-options=a', '--cfg-options=a'),
        ('CONFIG --cfg-options --cfg-options a=1', '--cfg-options'),
    ],
)
def test_bad_options_are_refused(line, found, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(line.split())
    assert f'argument --cfg-options: expected KEY=VALUE, but got {found}\n' in capsys.readouterr().err


@pytest.mark.parametrize('found', ['a=[', 'a=[1, (2, 3]'])
def test_open_brackets_are_refused(found, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(['--cfg-options', found])
    assert 'do not match; what is text and nothing else stands in quotes' in capsys.readouterr().err
