#!/usr/bin/env bash
# A run of two processes, one of them killed in the middle, gives what an uninterrupted one gives.
# usage: scripts/resume_check.sh FOLDER_OF_VIDEOS OUT
set -euo pipefail
data=$1 out=$2
export OMP_NUM_THREADS=1
command=(torchrun --standalone --nproc-per-node 2 -m neurocodec train tokenizer --data "$data" --size tiny --steps 300
  --batch 2 --crop 32 --frames 5 --set save_every=20 --resume auto --device cpu)

"${command[@]}" --out "$out/whole"
"${command[@]}" --out "$out/killed" &
launcher=$!
until [ -e "$out/killed/checkpoint.pt" ]; do sleep 0.1; done
kill -9 "$(pgrep -P "$launcher" | tail -1)" # a worker; torchrun ends the other
if wait "$launcher"; then
  echo "it ended before it was killed"
  exit 1
fi
"${command[@]}" --out "$out/killed"
for run in whole killed; do
  grep '"loss"' "$out/$run/log.jsonl" | tail -1 | sed 's/"seconds": [0-9]*, //' > "$out/$run.loss"
done
cmp "$out/whole.loss" "$out/killed.loss"
cat "$out/whole.loss"
