#!/usr/bin/env bash
# How motion-ms-ssim is made from a bundle of the family motion: its networks and its generator are trained on, with steps
# that luma's frequencies have for MS-SSIM and with that as distortion.
# usage: scripts/train_ms_ssim.sh BUNDLE TRAINING_FOLDER OUT.safetensors [RUN_FOLDER]
# Run it again after an interruption: each part goes on at its last checkpoint, and what is complete is not done again.
# Times are of one thread of a server CPU with AVX512-BF16, with other work on the machine. Needs pytorch-msssim.
set -euo pipefail
bundle=$1 data=$2 out=$3 run=${4:-runs/ms-ssim}

intra_steps=2400       # of three crops of 192 x 192: 0.35 s each
windows=1040           # of nine frames, searched once: 0.2 s each
inter_steps=4400       # of three windows and four of their pictures, in closed loop: 0.8 s each
generator_steps=5500   # 0.3 s each
clips=200 photos=120   # whose tokens the generator learns

train() { # part, further options
  local part=$1
  shift
  neurocodec train tokenizer --config motion --distortion ms-ssim --part "$part" --data "$data" --out "$run/$part" \
    --from "$bundle" --learning-rate 4e-4 "$@" --resume auto -v
}

mkdir -p "$run"
train intra --steps "$intra_steps"
train inter --steps "$inter_steps" --other "$run/intra" --windows "$run/windows.pt" --count "$windows"
tokenizer=$run/tokenizer.safetensors
[ -e "$tokenizer" ] || neurocodec models export "$run/inter" --intra "$run/intra" --data "$data" --clips 60 -o "$tokenizer" -v
neurocodec train generator --tokenizer "$tokenizer" --from "$bundle" --data "$data" --out "$run/generator" \
  --clips "$clips" --photos "$photos" --steps "$generator_steps" --learning-rate 8e-4 --resume auto -v
neurocodec models export "$run/generator" --tokenizer "$tokenizer" -o "$out" -y -v
