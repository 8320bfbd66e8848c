#!/usr/bin/env bash
# How magvit2-small is made. usage: scripts/train_small.sh TRAINING_FOLDER VALIDATION_FOLDER [RUN_FOLDER]
# Run it again after an interruption: it goes on at the last checkpoint.
set -euo pipefail
data=$1 validation=$2 run=${3:-runs/small}
neurocodec train tokenizer --data "$data" --val "$validation" --size small --steps 6000 --out "$run" --resume auto -v
neurocodec models export "$run" --data "$data" --clips 400 -o "$run/magvit2-small.safetensors" -y -v
