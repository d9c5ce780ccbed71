"""Aggregators: from the gradients of the tasks to one update."""

from .aligned_mtl import AlignedMTL
from .base import Aggregator, RowAggregator
from .cagrad import CAGrad
from .con_fig import ConFIG
from .conicgrad import ConicGrad
from .db_mtl import DBMTL
from .excess_mtl import ExcessMTL
from .fairgrad import FairGrad
from .graddrop import GradDrop
from .gradvac import GradVac
from .gramian import GramianAggregator
from .imtl_g import IMTLG
from .mgda import MGDA
from .moco import MoCo
from .nash_mtl import NashMTL
from .ngdiff import NGDiff
from .pcgrad import PCGrad
from .sdmgrad import SDMGrad
from .sums import Mean, Sum
from .upgrad import DualProj, UPGrad

__all__ = [
    'DBMTL',
    'IMTLG',
    'MGDA',
    'Aggregator',
    'AlignedMTL',
    'CAGrad',
    'ConFIG',
    'ConicGrad',
    'DualProj',
    'ExcessMTL',
    'FairGrad',
    'GradDrop',
    'GradVac',
    'GramianAggregator',
    'Mean',
    'MoCo',
    'NGDiff',
    'NashMTL',
    'PCGrad',
    'RowAggregator',
    'SDMGrad',
    'Sum',
    'UPGrad',
]
