#!/usr/bin/env bash
# sbatch [--partition=...] tools/slurm_batch.sh CONFIG [options of tools/train.py]
# Trains with one process per task of the allocation, and goes on by itself when the time limit ends it: two minutes before,
# Slurm sends SIGUSR1, the training saves a checkpoint and exits with 75, and the job goes back into the queue.
#SBATCH --job-name=mtl_plugins
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=5
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "sbatch [--partition=...] tools/slurm_batch.sh CONFIG [options of tools/train.py]" >&2
    exit 2
fi

# Slurm runs a copy of this script elsewhere; it starts in the folder in which sbatch was called.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
code=0
srun "${PYTHON:-python}" -u -m mtl_plugins train "$@" --launcher slurm --resume || code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
