"""Figures: dense maps in colour, prediction panels, affinity and task groups. All are made without a display."""

from mtl_plugins.methods.exports import on_demand

__getattr__, __all__ = on_demand(
    __name__,
    {
        'affinity': 'draw_affinity draw_affinity_curves draw_affinity_panels strongest_pairs',
        'conflicts': 'Conflicts draw_layer_conflicts draw_mean_cosines draw_pair_conflicts read_conflicts',
        'dominance': 'draw_dominance',
        'figure': 'distinct_colours figure_to_rgb save_figure save_image',
        'groups': 'draw_group_timeline',
        'hooks': 'PredictionPanelHook',
        'painters': 'PAINTERS paint painted_range painter_of',
        'panels': 'image_from_inputs prediction_panel',
        'run_log': 'read_affinity_log read_run',
    },
)
