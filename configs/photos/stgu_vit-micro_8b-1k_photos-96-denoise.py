# Denoising as a fourth task. The input images carry noise then, for all tasks; the targets come from the clean ones.
_base_ = ['./stgu_vit-micro_8b-1k_photos-96.py']

tasks = (*_base_.tasks, 'denoise')
model = dict(heads=dict(denoise=dict(predictor=_base_.pixels)))
train_dataloader = dict(dataset=dict(tasks=tasks))
val_dataloader = dict(dataset=dict(tasks=tasks))
test_dataloader = dict(dataset=dict(tasks=tasks))
val_evaluator = dict(tasks=tasks)
test_evaluator = dict(tasks=tasks)
