"""What all datasets of ours do with the arguments of MMEngine's datasets."""

import pytest
from mmengine.dataset import BaseDataset

from mtl_plugins.datasets import NYUDv2Dataset, PhotosDataset, RoomsDataset
from mtl_plugins.errors import UserError
from tests.support.stand_ins import stand_in

DATASETS = {
    RoomsDataset: lambda: dict(split='val', num_images=3, size=(32, 48)),
    PhotosDataset: lambda: dict(split='val', crop_size=32, crops_per_image=1),
    NYUDv2Dataset: lambda: dict(split='val', data_root=stand_in('nyud'), tasks=['semseg', 'depth']),
}
NUMBER = 'an integer >= 0'
INDICES = 'an integer or a list of integers or None'
SWITCH = 'True or False'
WRONG = [
    *(('indices', value, f'indices must be {INDICES}, but got') for value in (1.5, '3', True, [0.5], ['a'], {})),
    *(('indices', value, 'chooses no sample of') for value in (0, [])),
    *(('indices', value, 'positions among .* but got') for value in ([1000], [0, -1000])),
    *(('max_refetch', value, f'max_refetch must be {NUMBER}, but got') for value in (-1, 1.5, 'x', None, True)),
    *((key, value, f'{key} must be {SWITCH}, but got') for key in ('serialize_data', 'test_mode', 'lazy_init')
      for value in (1, 'False', None)),
    ('filter_cfg', dict(filter_empty_gt=True), 'filter_cfg does not apply; its arguments are .*split.* and indices'),
    ('filter_cfg', 'x', 'filter_cfg does not apply'),
    ('ann_file', 'train.txt', 'ann_file does not apply'),
    ('data_prefix', dict(img_path='x'), 'data_prefix does not apply'),
    ('data_prefix', 3, 'data_prefix does not apply'),
    ('metainfo', 3, 'metainfo must be a dict or None'),
    ('metainfo', dict(tasks='depth'), r'metainfo\.tasks must be a list of strings'),
    ('metainfo', dict(classes=3), r'metainfo\.classes must be a dict of lists of strings'),
    ('metainfo', dict(classes=dict(semseg=('a', 'b')), palettes=dict(semseg=[[0, 0, 0]])), 'has only 1 colours'),
]  # fmt: skip


@pytest.mark.parametrize('kind', DATASETS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(('name', 'value', 'says'), WRONG, ids=lambda value: repr(value)[:30])
def test_what_no_dataset_can_use_is_refused_in_a_sentence(kind, name, value, says):
    with pytest.raises(UserError, match=rf'^{kind.__name__}\b.*{says}'):
        kind(**{**DATASETS[kind](), name: value})


@pytest.mark.parametrize('kind', [RoomsDataset, PhotosDataset])
def test_a_folder_under_another_name_is_refused_where_none_of_that_name_is_read(kind):
    with pytest.raises(UserError, match='data_root does not apply'):
        kind(**DATASETS[kind](), data_root='/my/photos')


@pytest.mark.parametrize('kind', DATASETS, ids=lambda kind: kind.__name__)
def test_indices_choose_samples(kind):
    whole = [sample['img_path'] for sample in map(kind(**DATASETS[kind]()).get_data_info, range(2))]
    for indices, expected in [(1, whole[:1]), ([1, 0, 1], [whole[1], whole[0], whole[1]]), (range(2), whole)]:
        chosen = kind(**DATASETS[kind](), indices=indices, serialize_data=False)
        assert [chosen.get_data_info(i)['img_path'] for i in range(len(chosen))] == expected
    assert not kind(**DATASETS[kind](), lazy_init=True)._fully_initialized


def test_a_dataset_that_filters_takes_what_it_filters_by():
    class Filtering(RoomsDataset):
        def filter_data(self):
            return self.data_list[: self.filter_cfg['most']]

    assert issubclass(Filtering, BaseDataset)
    assert len(Filtering(**DATASETS[RoomsDataset](), filter_cfg=dict(most=2))) == 2
