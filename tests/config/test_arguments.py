import pytest

from mtl_plugins.cli.parsers import baselines, doctor, test, train
from mtl_plugins.config.arguments import LAUNCHERS


@pytest.mark.parametrize('launcher', LAUNCHERS)
@pytest.mark.parametrize(('tool', 'positional'), [(train, ['c.py']), (test, ['c.py', 'x.pth'])])
def test_launchers(launcher, tool, positional):
    for spelling in ('--local-rank', '--local_rank'):
        args = tool.build_parser().parse_args([*positional, '--launcher', launcher, f'{spelling}=3'])
        assert (args.launcher, args.local_rank) == (launcher, 3)
    args = tool.build_parser().parse_args(positional)
    assert (args.launcher, args.local_rank, args.trust_checkpoint) == ('none', 0, False)
    with pytest.raises(SystemExit):
        tool.build_parser().parse_args([*positional, '--launcher', 'torchrun'])


@pytest.mark.parametrize(
    ('tool', 'positional'), [(train, ['c.py']), (test, ['c.py', 'x.pth']), (doctor, ['c.py']), (baselines, ['c.py'])]
)
def test_options_swallow_nothing(tool, positional):
    for line in (
        ['--cfg-options', 'a=1', 'b.c=x', *positional, '--data-root', 'd'],
        [*positional, '--data-root', 'd', '--tasks', 'a, b', '--cfg-options', 'a=1', 'b.c=x'],
    ):
        args = tool.build_parser().parse_args(line)
        assert args.config == 'c.py'
        assert args.data_root == 'd'
        assert args.cfg_options == {'a': 1, 'b.c': 'x'}


@pytest.mark.parametrize('tool', [train, test, doctor, baselines])
def test_help_says_what_there_is(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.build_parser().parse_args(['--help'])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert '--cfg-options' in text
    assert '--data-root' in text
