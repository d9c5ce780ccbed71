"""Figures: dense maps in colour, prediction panels, affinity and task groups. All are made without a display."""

from .affinity import draw_affinity, draw_affinity_curves, draw_affinity_panels, strongest_pairs
from .conflicts import Conflicts, draw_layer_conflicts, draw_mean_cosines, draw_pair_conflicts, read_conflicts
from .dominance import draw_dominance
from .figure import distinct_colours, figure_to_rgb, save_figure, save_image
from .groups import draw_group_timeline
from .hooks import PredictionPanelHook
from .painters import PAINTERS, paint, painted_range, painter_of
from .panels import image_from_inputs, prediction_panel
from .run_log import read_affinity_log, read_run

__all__ = [
    'PAINTERS',
    'Conflicts',
    'PredictionPanelHook',
    'distinct_colours',
    'draw_affinity',
    'draw_affinity_curves',
    'draw_affinity_panels',
    'draw_dominance',
    'draw_group_timeline',
    'draw_layer_conflicts',
    'draw_mean_cosines',
    'draw_pair_conflicts',
    'figure_to_rgb',
    'image_from_inputs',
    'paint',
    'painted_range',
    'painter_of',
    'prediction_panel',
    'read_affinity_log',
    'read_conflicts',
    'read_run',
    'save_figure',
    'save_image',
    'strongest_pairs',
]
