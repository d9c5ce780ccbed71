"""The options of the commands, so that ``--help`` and wrong options need nothing else."""
