import json

from mtl_plugins.datasets.verification import Problem, Report, Verification, make_problem
from mtl_plugins.datasets.verification.manifest import Changes
from mtl_plugins.datasets.verification.report import group_problems


def report(problems=(), content=True, changes=None, **kwargs):
    outcome = Verification(tuple(problems), {}, 7, 21, content)
    return Report('tiny', '/data/tiny', {'packaging': 'small'}, outcome, changes, **kwargs)


MISSING = [make_problem('missing file', f'images/{index}.png', 'it is listed, but not there') for index in range(8)]
RESIZED = [make_problem('wrong size', 'depth/3.npy', 'expected 2 x 3, found 3 x 2')]


def test_problems_are_grouped_with_counts_and_one_remedy_each():
    text = report([*MISSING[:4], *RESIZED, *MISSING[4:]]).as_text(show=3)
    lines = text.splitlines()
    assert lines.index('missing file (8)') < lines.index('wrong size (1)')
    assert '  images/2.png: it is listed, but not there' in lines
    assert 'images/3.png' not in text
    assert any('5 more' in line for line in lines)
    assert '  depth/3.npy: expected 2 x 3, found 3 x 2' in lines
    assert text.count('-> ') == 2
    assert lines[-1] == 'NOT CLEAN: 9 problems of 2 kinds'


def test_different_remedies_stay_apart():
    problems = [Problem('a', 'missing file: x', 'one'), Problem('b', 'missing file: x', 'two')]
    assert [len(group) for _, group in group_problems(problems)] == [1, 1]


def test_the_head_says_what_was_looked_at():
    text = report(seconds=3).as_text()
    for part in ('tiny', '/data/tiny', 'packaging', 'small', '7 samples', '21 files', '7 files/s'):
        assert part in text


def test_clean_is_said_only_if_everything_was_checked():
    assert report().is_clean
    assert report().as_text().splitlines()[-1].startswith('clean:')
    for other in (
        report(MISSING),
        report(content=False),
        report(changes=Changes(changed=('a',))),
        Report('tiny', '.', {}, Verification(())),
    ):
        assert not other.is_clean
        assert not other.as_text().splitlines()[-1].startswith('clean')
        assert other.as_dict()['clean'] is False
    assert report(changes=Changes(new=('a',))).is_clean


def test_differences_from_the_manifest_are_listed():
    text = report(changes=Changes(('x.png',), ('y.png',), ('z.png',)), manifest='manifest: noted').as_text()
    assert 'changed file (1)' in text
    assert '  y.png: it is in the manifest' in text
    assert '1 files are new since the last time: z.png' in text
    assert '--update-manifest' in text
    assert 'manifest: noted' in text


def test_the_json_holds_all():
    content = json.loads(
        json.dumps(report([*MISSING, *RESIZED], changes=Changes(new=('n',)), seconds=1.23456).as_dict())
    )
    assert content['problems'][-1] == {
        'path': 'depth/3.npy', 'kind': 'wrong size', 'detail': 'expected 2 x 3, found 3 x 2',
        'remedy': RESIZED[0].remedy,
    }  # fmt: skip
    assert len(content['problems']) == 9
    assert (content['samples'], content['files'], content['new_files'], content['compared']) == (7, 21, ['n'], True)
