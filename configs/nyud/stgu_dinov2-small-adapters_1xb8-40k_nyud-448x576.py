# Beside the heads, low-rank additions to the frozen network are trained, for all tasks and for each task.
_base_ = ['./stgu_dinov2-small_1xb8-40k_nyud-448x576.py']

model = dict(backbone=dict(adapters=dict(rank=4, task_rank=4)))
