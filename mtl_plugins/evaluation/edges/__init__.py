"""Edge maps: thinning, non-maximum suppression, and one-to-one matching within a tolerance."""

from mtl_plugins.structures.thinning import thinned

from .bsds import count_bsds_matches
from .counting import MATCHERS, THRESHOLDS, EdgeCounter, check_thresholds
from .exact import count_exact_matches
from .greedy import count_matches, match_edges, offsets_within, tolerance
from .nms import suppress_non_maxima

__all__ = [
    'MATCHERS',
    'THRESHOLDS',
    'EdgeCounter',
    'check_thresholds',
    'count_bsds_matches',
    'count_exact_matches',
    'count_matches',
    'match_edges',
    'offsets_within',
    'suppress_non_maxima',
    'thinned',
    'tolerance',
]
