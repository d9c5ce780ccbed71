# Tasks of NYUD-v2; all losses weigh 1, as in the STGU papers.
dense_heads = dict(semseg=dict(num_classes=40), depth=dict(), normals=dict(), edge=dict())
