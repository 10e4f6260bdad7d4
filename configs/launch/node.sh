#!/usr/bin/env bash
# `accelerate launch` on one machine, for a job that is told to end by SIGTERM:
#   configs/launch/node.sh --config_file configs/launch/gpu8.yaml training/train.py --config configs/toy.yaml
# The signal goes to the training's processes, which end the step under way and save, however long
# that takes. The launcher, were it told itself, would kill them half a minute later.
set -uo pipefail

accelerate launch "$@" &
launcher=$!
trap 'pkill -TERM -P "$launcher"' TERM INT

# A signal ends a wait, and not what is waited for.
while wait "$launcher"; code=$?; kill -0 "$launcher" 2>/dev/null; do :; done
exit "$code"
