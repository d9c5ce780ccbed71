"""Weightings: from the losses to one weight per task."""

from .base import Weighting
from .bmtl import BMTL
from .dtp import DTP
from .dwa import DWA
from .emtl import EMTL
from .equal import EqualWeighting
from .famo import FAMO
from .gls import GLS
from .gradnorm import GradNorm
from .imtl_l import IMTLL
from .rlw import RLW
from .slaw import SLAW
from .stch import STCH
from .uncertainty import UncertaintyWeighting

__all__ = [
    'BMTL',
    'DTP',
    'DWA',
    'EMTL',
    'FAMO',
    'GLS',
    'IMTLL',
    'RLW',
    'SLAW',
    'STCH',
    'EqualWeighting',
    'GradNorm',
    'UncertaintyWeighting',
    'Weighting',
]
