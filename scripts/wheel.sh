#!/usr/bin/env bash
# Build the wheel twice from what is committed, and compare the bytes.
#
#     scripts/wheel.sh OUT     (needs git, and pip with setuptools; leaves the wheel in OUT)
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022  # permissions are part of a wheel
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)  # and so are dates
export SOURCE_DATE_EPOCH
for n in 1 2; do
    mkdir "$work/source$n"
    git archive HEAD | tar -x -C "$work/source$n"
    python3 -m pip wheel --quiet --no-deps --wheel-dir "$work/wheel$n" "$work/source$n"
done
cmp "$work"/wheel1/*.whl "$work"/wheel2/*.whl
cp "$work"/wheel1/*.whl "$out"
sha256sum "$out"/*.whl
