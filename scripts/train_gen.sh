#!/usr/bin/env bash
# How tiny-gen is made: a tokenizer of 12-bit codes and a masked transformer, of a made-up set of
# moving shapes. usage: scripts/train_gen.sh [RUN_FOLDER]
# Run it again after an interruption: it goes on at the last checkpoint.
set -euo pipefail
run=${1:-runs/gen}

codes=4000         # steps of the tokenizer, 8 clips each, 0.3 s of one core
steps=4000         # of the transformer, 32 clips each, 1 s of one core; without dropout, which is slower
clips=8000         # that tokens are made of

[ -d "$run/shapes" ] || { python scripts/make_shapes.py "$run/part" 200; mv "$run/part" "$run/shapes"; }
neurocodec train tokenizer --data "$run/shapes" --out "$run/tokenizer" --size codes --frames 9 --crop 64 --batch 8 \
  --steps "$codes" --set rate=0 --set recon=5.0 --set learning_rate=2e-3 --set warm_up=50 --set ema=0.995 --resume auto -v
[ -e "$run/codes.safetensors" ] || neurocodec models export "$run/tokenizer" -o "$run/codes.safetensors" -v
neurocodec train transformer --tokenizer "$run/codes.safetensors" --data "$run/shapes" --out "$run/transformer" \
  --size small --steps "$steps" --clips "$clips" --set frames=9 --set crop=64 --set batch=32 --set warm_up=200 \
  --set learning_rate=1e-3 --set task_odds=4,2,1,1,1 --set dropout=0 --resume auto -v
neurocodec models export "$run/transformer" --tokenizer "$run/codes.safetensors" -o "$run/tiny-gen.safetensors" -y -v
