#!/usr/bin/env bash
# One task a node; each starts a process for each of its GPUs:
#   sbatch configs/launch/slurm.sh --config configs/toy.yaml parallel.shard=8 parallel.replicate=4
# With DRY_RUN=1 the launch line is printed and nothing is started.
#SBATCH --job-name=kinetograph
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

nodes=${SLURM_NNODES:-4}
gpus=${SLURM_GPUS_PER_NODE:-8}
head=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null | head -n 1 || true)
launch=(
    accelerate launch --config_file configs/launch/nodes.yaml
    --num_machines "$nodes" --num_processes "$((nodes * gpus))"
    --machine_rank '$SLURM_NODEID' --main_process_ip "${head:-localhost}" --main_process_port 29500
    training/train.py "$@"
)
echo "${launch[*]}"
if [ -z "${DRY_RUN:-}" ]; then
    # SIGTERM, two minutes before the time is up, ends the step under way and saves.
    srun bash -c "${launch[*]}" &
    trap 'kill -TERM $!' TERM
    wait $!
fi
