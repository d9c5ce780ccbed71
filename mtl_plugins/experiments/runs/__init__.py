"""Many trainings as resumable processes: baselines, the tables of papers, comparisons of methods."""

from .executor import execute
from .settings import comparable, decisive_settings, first_difference
from .training_run import TrainingRun

__all__ = ['TrainingRun', 'comparable', 'decisive_settings', 'execute', 'first_difference']
