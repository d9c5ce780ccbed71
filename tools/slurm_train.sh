#!/usr/bin/env bash
# bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# One process per GPU: GPUS (8) in all, GPUS_PER_NODE (8) on a machine, CPUS_PER_TASK (5) for each.
# SRUN_ARGS: further options of srun, for example SRUN_ARGS='--time=1:00:00 --account=vision'.
# For a job in the queue that goes on by itself after a time limit, see tools/slurm_batch.sh.
set -euo pipefail

if [ $# -lt 3 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
read -r -a MORE <<<"${SRUN_ARGS:-}"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec srun --partition="$PARTITION" --job-name="$JOB_NAME" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --gres="gpu:$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${MORE[@]+"${MORE[@]}"} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "$@"
