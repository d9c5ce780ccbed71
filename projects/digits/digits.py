"""Handwritten digits with two label sets, in plain MMEngine: a dataset, a model with two named losses, a metric.

Nothing here knows of mtl_plugins.
"""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

NUM_TRAIN = 1437
"""Of the 1797 images; the others, of other writers, are for validation."""


@DATASETS.register_module()
class DigitsDataset(Dataset):
    """The digits that come with scikit-learn (UCI, 8 x 8 pixels): which digit, and whether it is odd.

    Args:
        split: ``'train'`` or ``'val'``.
    """

    def __init__(self, split='train'):
        if split not in ('train', 'val'):
            raise ValueError(f"DigitsDataset: split must be 'train' or 'val', but got {split!r}")
        part = slice(NUM_TRAIN) if split == 'train' else slice(NUM_TRAIN, None)
        digits = load_digits()
        self.images = torch.tensor(digits.images[part], dtype=torch.float32)[:, None] / 8 - 1
        self.digits = torch.tensor(digits.target[part])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        digit = self.digits[index]
        return dict(inputs=self.images[index], digit=digit, parity=digit % 2)


@MODELS.register_module()
class DigitsNet(BaseModel):
    """Two convolutions that both tasks share, and a linear head for each.

    Args:
        channels: Width of the shared part.
        dropout: Probability of dropout before the heads.
    """

    def __init__(self, channels=32, dropout=0.1, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.digit_head = nn.Linear(16 * channels, 10)
        self.parity_head = nn.Linear(16 * channels, 2)

    def forward(self, inputs, digit=None, parity=None, mode='tensor'):
        features = self.backbone(inputs)
        scores = self.digit_head(features), self.parity_head(features)
        if mode == 'loss':
            return dict(
                loss_digit=nn.functional.cross_entropy(scores[0], digit),
                loss_parity=nn.functional.cross_entropy(scores[1], parity),
            )
        if mode == 'predict':
            return [dict(digit=d.argmax(), parity=p.argmax()) for d, p in zip(*scores)]
        return scores


@METRICS.register_module()
class DigitsAccuracy(BaseMetric):
    """Share of right answers per task, in percent."""

    def process(self, data_batch, data_samples):
        for index, sample in enumerate(data_samples):
            self.results.append({task: bool(sample[task] == data_batch[task][index]) for task in sample})

    def compute_metrics(self, results):
        return {f'{task}/accuracy': 100 * sum(r[task] for r in results) / len(results) for task in results[0]}
