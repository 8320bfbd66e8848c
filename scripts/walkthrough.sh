#!/usr/bin/env bash
# From ten clips to a codec of one's own, at size tiny: minutes on a laptop. usage: scripts/walkthrough.sh VIDEOS [RUN_FOLDER]
# VIDEOS: a folder; ten of its videos are taken. What comes out shows the way; it does not compress well.
set -euo pipefail
videos=${1:?usage: scripts/walkthrough.sh VIDEOS [RUN_FOLDER]} run=${2:-runs/walkthrough}
mkdir -p "$run"
find -L "$(realpath "$videos")" -type f \( -name '*.mp4' -o -name '*.mkv' -o -name '*.webm' -o -name '*.mov' -o -name '*.avi' \) | sort >"$run/all.txt"
head -n 10 "$run/all.txt" >"$run/clips.txt"
clip=$(head -n 1 "$run/clips.txt")

neurocodec train tokenizer --data "$run/clips.txt" --size tiny --steps 300 --batch 4 --frames 9 --crop 64 --out "$run/tokenizer" --resume auto
neurocodec models export "$run/tokenizer" --data "$run/clips.txt" --clips 10 -o "$run/tokenizer.safetensors" -y
neurocodec train generator --tokenizer "$run/tokenizer.safetensors" --data "$run/clips.txt" --clips 20 --frames 9 --crop 64 \
  --channels 16 --hidden 16 --steps 300 --out "$run/generator" --resume auto
neurocodec models export "$run/generator" --tokenizer "$run/tokenizer.safetensors" -o "$run/my.safetensors" -y
neurocodec compress "$clip" "$run/mine.nc" --model "$run/my.safetensors" --duration 2 -y
neurocodec decompress "$run/mine.nc" "$run/mine.mkv" --model "$run/my.safetensors" -y
neurocodec verify "$run/mine.nc" --tokens --model "$run/my.safetensors"
