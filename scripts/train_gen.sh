#!/usr/bin/env bash
# How tiny-gen is made: a tokenizer of 12-bit codes and a masked transformer, of a made-up set of
# moving shapes. usage: scripts/train_gen.sh [RUN_FOLDER]
# Run it again after an interruption: it goes on at the last checkpoint.
set -euo pipefail
run=${1:-runs/gen}

codes=4000         # steps of the tokenizer, 8 clips each, 0.3 s of one core
sharper=600        # and of its decoder alone, for features of pictures, too, 1 s
steps=6000         # of the transformer, 32 clips each, 1 s of one core; without dropout, which is slower
clips=16000        # that tokens are made of
small=(--size codes --set frames=9 --set crop=64 --set batch=8 --set rate=0 --set recon=5.0 --set warm_up=50 --set ema=0.995)

[ -d "$run/shapes" ] || { python scripts/make_shapes.py "$run/part" 200; mv "$run/part" "$run/shapes"; }
neurocodec train tokenizer --data "$run/shapes" --out "$run/tokenizer" "${small[@]}" --set learning_rate=2e-3 \
  --steps "$codes" --resume auto -v
[ -e "$run/blurred.safetensors" ] || neurocodec models export "$run/tokenizer" -o "$run/blurred.safetensors" -v
neurocodec train tokenizer --from "$run/blurred.safetensors" --data "$run/shapes" --out "$run/decoder" "${small[@]}" \
  --set learns=decoder --set learning_rate=1e-3 --set perceptual=0.5 --steps "$sharper" --resume auto -v
[ -e "$run/codes.safetensors" ] || neurocodec models export "$run/decoder" -o "$run/codes.safetensors" -v
neurocodec train transformer --tokenizer "$run/codes.safetensors" --data "$run/shapes" --out "$run/transformer" \
  --size small --steps "$steps" --clips "$clips" --set frames=9 --set crop=64 --set batch=32 --set warm_up=200 \
  --set learning_rate=1e-3 --set task_odds=2,4,1,1,1 --set dropout=0 --resume auto -v
neurocodec models export "$run/transformer" --tokenizer "$run/codes.safetensors" -o "$run/tiny-gen.safetensors" -y -v
