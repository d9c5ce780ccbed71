# The optimizer of the multi-task survey (Vandenhende et al., 2021) for its convolutional models. It trains for 100
# epochs, which are 9 900 batches of 8 on NYUD-v2 and 62 400 on PASCAL-Context; here 40 000, as in the other configs.
_base_ = ['./adam_40k.py']

optimizer = dict(lr=1e-4, weight_decay=1e-4)
