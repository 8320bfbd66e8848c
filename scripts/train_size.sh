#!/usr/bin/env bash
# How a bundle of another size is made from one of the family motion: its intra networks and generator are kept, inter networks
# are new. usage: scripts/train_size.sh SIZE BUNDLE TRAINING_FOLDER OUT.safetensors [RUN_FOLDER]
# Run it again after an interruption: each part goes on at its last checkpoint, and what is complete is not done again.
# Times are of sizes fast and small and one thread of a server CPU without AVX-512, with other work on the machine.
set -euo pipefail
size=$1 bundle=$2 data=$3 out=$4 run=${5:-runs/$1}

clips=100          # coded by the bundle, 55 frames of 256 x 256 each: 5 s a clip
first_steps=4000   # of six crops of their pictures, one picture at a time: 0.1 s each
windows=1400       # of nine frames, searched once: 0.2 s each
steps=8000         # of three windows and four of their pictures, in closed loop: 0.5 s each

train() { # folder, further options
  local folder=$1
  shift
  neurocodec train tokenizer --config motion --size "$size" --part inter --data "$data" --out "$folder" "$@" --resume auto -v
}

mkdir -p "$run"
train "$run/first" --from "$bundle" --chains "$run/chains.pt" --count "$clips" --steps "$first_steps" --batch 6 \
  --learning-rate 1e-3
[ -e "$run/first.safetensors" ] || neurocodec models export "$run/first" -o "$run/first.safetensors"
train "$run/second" --from "$run/first.safetensors" --windows "$run/windows.pt" --count "$windows" --steps "$steps" \
  --learning-rate 6e-4
neurocodec models export "$run/second" --generator "$bundle" --data "$data" --clips 60 -o "$out" -y -v
