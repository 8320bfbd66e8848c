#!/usr/bin/env bash
# How a bundle gets its generator. usage: scripts/train_generator.sh BUNDLE TRAINING_FOLDER OUT.safetensors [RUN_FOLDER]
# Run it again after an interruption: it goes on at the last checkpoint; tokens are made once.
# Times are of one thread of a server CPU, with nothing else on that core.
set -euo pipefail
bundle=$1 data=$2 out=$3 run=${4:-runs/generator}

clips=500          # 17 frames of 224x224 each, coded by the real encoder: 3.5 s each, half an hour
photos=400         # single pictures: 0.4 s each
steps=25000        # 0.2 s each: 1.4 hours
channels=64
hidden=32          # of the heads of the stages
motion=96          # of the networks for motion

resume=()
[ -e "$run/checkpoint.pt" ] && resume=(--resume)
neurocodec train generator --tokenizer "$bundle" --data "$data" --out "$run" --clips "$clips" --photos "$photos" --steps "$steps" \
  --channels "$channels" --hidden "$hidden" --motion "$motion" "${resume[@]}" -v
neurocodec models export "$run" --tokenizer "$bundle" -o "$out" -y -v
