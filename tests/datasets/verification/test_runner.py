import shutil

import numpy as np
import pytest

from mtl_plugins.datasets.verification import (
    CheckJob,
    LazyJobs,
    Verification,
    get_layout_check,
    make_problem,
    runner,
    verify,
)
from mtl_plugins.datasets.verification.runner import run_job, settle, stamp_file

from .tiny import LOCATION, DyingCheck, RaisingCheck, TinyCheck, make_tiny


@pytest.fixture
def many_workers(monkeypatch):
    """As many workers as asked for, however small the dataset is."""
    monkeypatch.setattr(runner, '_LEAST_JOBS_PER_WORKER', 1)


def found(outcome):
    return [(problem.path, problem.kind) for problem in outcome.problems]


def test_a_sound_dataset_is_clean(tmp_path):
    outcome = verify(TinyCheck(make_tiny(tmp_path)))
    assert outcome.is_clean
    assert (outcome.num_samples, outcome.num_files) == (3, 10)
    assert set(outcome.stamps) == {'list.txt'} | {
        f'{kind}/00{index}.{end}' for kind, end in (('images', 'png'), ('semseg', 'png'), ('depth', 'npy'))
        for index in range(3)
    }  # fmt: skip
    assert outcome.stamps['list.txt'] == stamp_file(tmp_path / 'list.txt')


def damage(root):
    (root / 'images/001.png').unlink()
    (root / 'semseg/004.png').write_bytes(b'')
    data = (root / 'depth/002.npy').read_bytes()
    (root / 'depth/002.npy').write_bytes(data[:-4])
    np.save(root / 'depth/000.npy', np.zeros((12, 16), np.float32))
    return [
        ('depth/000.npy', 'no labelled pixel'),
        ('depth/002.npy', 'unreadable file'),
        ('images/001.png', 'missing file'),
        ('semseg/004.png', 'unreadable file'),
    ]


def test_every_damage_is_named_once_and_in_order(tmp_path):
    expected = damage(make_tiny(tmp_path, 5))
    assert found(verify(TinyCheck(tmp_path))) == expected


def test_the_outcome_does_not_depend_on_the_number_of_workers(tmp_path, many_workers):
    expected = damage(make_tiny(tmp_path, 60))
    alone, together = verify(TinyCheck(tmp_path), workers=1), verify(TinyCheck(tmp_path), workers=3)
    assert alone == together
    assert list(alone.stamps) == list(together.stamps)
    assert found(alone) == expected


def test_without_content_only_missing_files_are_found(tmp_path):
    damage(make_tiny(tmp_path, 5))
    outcome = verify(TinyCheck(tmp_path), content=False, stamps=False)
    assert found(outcome) == [('images/001.png', 'missing file')]
    assert outcome.stamps == {}
    (tmp_path / 'list.txt').write_text('000')
    untouched = verify(TinyCheck(tmp_path), content=False, stamps=False)
    assert untouched.problems == ()
    assert not untouched.is_clean


def test_a_dataset_without_samples_is_not_clean(tmp_path):
    make_tiny(tmp_path)
    (tmp_path / 'list.txt').write_text('\n')
    outcome = verify(TinyCheck(tmp_path))
    assert found(outcome) == [('list.txt', 'empty split')]
    assert not Verification(()).is_clean


def test_an_exception_of_a_check_is_a_problem_of_the_file_it_names(tmp_path):
    outcome = verify(RaisingCheck(make_tiny(tmp_path, 2)))
    assert found(outcome) == [('depth/000.npy', 'unreadable file'), ('depth/001.npy', 'unreadable file')]
    assert 'IndexError' in outcome.problems[0].detail


def test_a_check_that_cannot_list_its_samples_is_reported(tmp_path):
    class Broken(TinyCheck):
        def jobs(self):
            raise ValueError('list.txt is a picture')

    [problem] = verify(Broken(make_tiny(tmp_path))).problems
    assert 'list.txt is a picture' in problem.detail


def test_a_dying_worker_is_said(tmp_path, many_workers):
    with pytest.raises(RuntimeError, match='--jobs 1'):
        verify(DyingCheck(make_tiny(tmp_path, 40)), workers=2)


def test_the_number_of_workers_is_validated(tmp_path):
    with pytest.raises(ValueError, match='workers'):
        verify(TinyCheck(make_tiny(tmp_path)), workers=0)


def test_a_file_that_is_missing_or_a_folder_does_not_hide_the_others(tmp_path):
    make_tiny(tmp_path)
    (tmp_path / 'images/000.png').unlink()
    (tmp_path / 'images/000.png').mkdir()
    (tmp_path / 'depth/000.npy').unlink()
    job = TinyCheck(tmp_path).jobs()[0]
    result = run_job(tmp_path, job)
    assert [(problem.path, problem.kind) for problem in result.problems] == [
        ('images/000.png', 'unreadable file'),
        ('depth/000.npy', 'missing file'),
    ]
    assert set(result.stamps) == {'semseg/000.png'}


def test_only_the_cause_is_reported(tmp_path):
    def problem(path, kind):
        return make_problem(kind, path, 'x')

    problems = [
        problem('a', 'wrong format'), problem('a', 'unreadable file'), problem('b', 'unreadable file'),
        problem('b', 'wrong size'), problem('c', 'wrong size'), problem('c', 'values out of range'),
        problem('c', 'wrong size'),
    ]  # fmt: skip
    assert [(item.path, item.kind) for item in settle(problems)] == [
        ('a', 'wrong format'),
        ('b', 'unreadable file'),
        ('c', 'wrong size'),
        ('c', 'values out of range'),
    ]


def test_checks_are_found_by_name_and_by_location():
    assert get_layout_check(LOCATION) is TinyCheck
    with pytest.raises(KeyError, match='did you mean nyud'):
        get_layout_check('nyudv2')
    with pytest.raises(ImportError, match='has no'):
        get_layout_check('tests.datasets.verification.tiny:Nothing')
    with pytest.raises(TypeError, match='subclass'):
        get_layout_check('tests.datasets.verification.tiny:make_tiny')


def test_a_missing_folder_is_named_instead_of_its_files(tmp_path):
    make_tiny(tmp_path, 5)
    shutil.rmtree(tmp_path / 'depth')
    (tmp_path / 'images/001.png').unlink()
    assert found(verify(TinyCheck(tmp_path))) == [('depth', 'missing folder'), ('images/001.png', 'missing file')]


def test_jobs_may_be_made_when_they_are_asked_for(tmp_path, many_workers):
    made = []

    class Lazy(TinyCheck):
        def jobs(self):
            jobs = super().jobs()
            return LazyJobs(lambda index: made.append(index) or jobs[index], len(jobs))

    expected = damage(make_tiny(tmp_path, 20))
    assert found(verify(Lazy(tmp_path))) == expected
    assert made == list(range(20))
    lazy = LazyJobs(lambda index: CheckJob((str(index),), print), 5)
    assert len(lazy) == 5
    assert [job.paths for job in lazy[3:9]] == [('3',), ('4',)]
    assert lazy[-1] == CheckJob(('4',), print)
    with pytest.raises(IndexError):
        lazy[5]
