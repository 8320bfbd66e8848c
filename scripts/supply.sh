#!/usr/bin/env bash
# What a release stands on: the wheel, twice the same, installed in a clean environment of each
# Python and tried there with `neurocodec demo`; its dependencies audited and listed.
#
#     scripts/supply.sh OUT PYTHON...     (needs git, and pip with access to a package index)
#
# Leaves in OUT: the wheel, of each version of Python a log and a list of materials (CycloneDX) for
# the release notes, and the audit of pip-audit. Exit status 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/wheel.sh "$out"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet pip-audit cyclonedx-bom
root=$PWD
cd "$work"  # so that nothing of the working tree is found
failed=0
for python in "$@"; do
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    environment="$work/python$version"
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet "$out"/neurocodec-*.whl
    "$environment/bin/pip" check
    if "$environment/bin/neurocodec" demo --out "$work/demo$version" >"$out/demo-$version.log" 2>&1
    then echo "Python $version: demo ran"
    else failed=1 && echo "Python $version: demo failed, see $out/demo-$version.log"
    fi
    "$environment/bin/pip" uninstall --quiet --yes pip setuptools  # not what we depend on
    "$work/tools/bin/cyclonedx-py" environment "$environment/bin/python" --output-reproducible \
        --pyproject "$root/pyproject.toml" --output-file "$out/materials-$version.cdx.json"
    site=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # strict: what cannot be looked up has not been audited
    "$work/tools/bin/pip-audit" --strict --path "$site" >"$out/audit-$version.txt" 2>&1 || failed=1
    echo "Python $version: $(tail -n 1 "$out/audit-$version.txt")"
done
exit "$failed"
