"""Parts of a training set that are held out."""

import pytest
from mmengine.dataset import BaseDataset

from mtl_plugins.datasets import HoldOut
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class ListedPictures(BaseDataset):
    """Three samples of each picture."""

    def __init__(self, pictures, **kwargs):
        self.pictures = pictures
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(img_path=f'{p}-{n}', source=p) for p in range(self.pictures) for n in range(3)]


def part(held_out, pictures=20, share=0.3, **kwargs):
    dataset = HoldOut(dict(type='ListedPictures', pictures=pictures), share, held_out, **kwargs)
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def test_the_parts_are_disjoint_and_complete_and_by_the_seed():
    held, rest = part(True), part(False)
    assert (len(held), len(rest)) == (18, 42)
    assert not {name.split('-')[0] for name in held} & {name.split('-')[0] for name in rest}
    assert part(True) == held
    assert part(True, seed=1) != held
    assert len(part(True, pictures=2, share=0.01)) == len(part(False, pictures=2, share=0.99)) == 3


@pytest.mark.parametrize(
    ('pictures', 'share', 'message'),
    [(1, 0.5, '1 pictures'), (3, 1, r'share must be a number in \(0, 1\)'), (3, 'half', "but got 'half'")],
)
def test_no_part_may_be_empty(pictures, share, message):
    with pytest.raises(ValueError, match=message):
        part(True, pictures, share)


def test_which_part_is_said_in_so_many_words():
    with pytest.raises(ValueError, match=r"HoldOut\.held_out must be True or False, but got 'false'"):
        part('false')
    with pytest.raises(ValueError, match=r'HoldOut\.seed must be an integer >= 0, but got 1.5'):
        part(True, seed=1.5)
