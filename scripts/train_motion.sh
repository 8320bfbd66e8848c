#!/usr/bin/env bash
# How a bundle of the family motion is made. usage: scripts/train_motion.sh TRAINING_FOLDER VALIDATION_FOLDER [RUN_FOLDER]
# Run it again after an interruption: each part goes on at its last checkpoint, and what is complete is not done again.
# Times are of one thread of a server CPU with AMX, with other work on the machine, and scale with the numbers below.
set -euo pipefail
data=$1 validation=$2 run=${3:-runs/motion}

size=small          # base for larger networks of inter pictures
seed=0
windows=2000          # nine frames each, searched once: 0.5 s and 0.4 MB each, 15 minutes
intra_steps=20000     # 0.2 s each: 1.2 hours
intra_batch=3
crop=192              # of intra pictures
inter_steps=20000     # 0.55 s each, two a window: 3 hours
inter_batch=3
learning_rate=5e-4    # constant, then a linear fall over the last three tenths
validate_every=2000
clips=400             # whose counts the entropy model starts from

train() { # part, steps, batch, further options
  local part=$1 steps=$2 batch=$3
  shift 3
  neurocodec train tokenizer --config motion --part "$part" --data "$data" --val "$validation" --out "$run/$part" \
    --size "$size" --seed "$seed" --steps "$steps" --batch "$batch" --learning-rate "$learning_rate" \
    --validate-every "$validate_every" "$@" --resume auto -v
}

mkdir -p "$run"
# Inter pictures are predicted from decoded ones: the intra part is to come first. Both can also run side by side, once the
# intra part has a checkpoint; its newer weights are looked for every 500 steps.
train intra "$intra_steps" "$intra_batch" --crop "$crop"
train inter "$inter_steps" "$inter_batch" --other "$run/intra" --windows "$run/windows.pt" --count "$windows"
neurocodec models export "$run/inter" --intra "$run/intra" --data "$data" --clips "$clips" \
  -o "$run/motion-$size.safetensors" -y -v
