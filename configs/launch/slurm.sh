#!/usr/bin/env bash
# One task a node; each starts a process for each of its GPUs:
#   sbatch configs/launch/slurm.sh --config configs/toy.yaml batch.packs=32 parallel.shard=8 parallel.replicate=4
# With DRY_RUN=1 the launch line is printed and nothing is started.
#SBATCH --job-name=kinetograph
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
set -euo pipefail

nodes=${SLURM_NNODES:-4}
gpus=${SLURM_GPUS_PER_NODE:-8}
gpus=${gpus##*:} # of h100:8, the number
head=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null | head -n 1 || true)
# Which machine it is, a task learns from its own environment.
task='exec configs/launch/node.sh --machine_rank "$SLURM_NODEID" "$@"'
launch=(
    srun bash -c "$task" kinetograph --config_file configs/launch/nodes.yaml
    --num_machines "$nodes" --num_processes "$((nodes * gpus))"
    --main_process_ip "${head:-localhost}" --main_process_port 29500
    training/train.py "$@"
)
printf '%q ' "${launch[@]}"
echo
if [ -n "${DRY_RUN:-}" ]; then exit; fi

# SIGTERM, five minutes before the time is up, ends the step under way and saves. The job lasts as
# long as this script, which therefore waits until that is done.
"${launch[@]}" &
tasks=$!
trap 'kill -TERM "$tasks"' TERM
while wait "$tasks"; code=$?; kill -0 "$tasks" 2>/dev/null; do :; done
exit "$code"
