#!/usr/bin/env bash
# Two nodes of eight GPUs under Slurm:  sbatch examples/cluster/slurm.sh
# torchrun runs once per node; its processes meet at the first node. The images are on a disk that all nodes see,
# decoded images on each node's own disk. Only the first node writes the run's folder.
#SBATCH --job-name=anychannel
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail

DATA=${DATA:-/shared/data/tiles}
OUT=${OUT:-/shared/runs/tiles}
RECIPE=${RECIPE:-recipes/full.toml}
GPUS=${SLURM_GPUS_ON_NODE:-8}
FIRST_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

export ANYCHANNEL_CACHE=${SLURM_TMPDIR:-/tmp/$USER-anychannel}
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / GPUS))

# --resume starts a new run or continues an existing one, so a requeued job continues
srun torchrun \
  --nnodes="$SLURM_NNODES" --nproc-per-node="$GPUS" \
  --rdzv-backend=c10d --rdzv-endpoint="$FIRST_NODE:29500" --rdzv-id="$SLURM_JOB_ID" \
  -m anychannel train --config "$RECIPE" --data "$DATA" --batch-size 2048 --out "$OUT" --resume
