#!/bin/sh
# Triton's load generator needs a newer glibc than most machines have: it gets a small Debian 13 of its own.
# As root on a Debian or Ubuntu:  tests/extended/install_perf_analyzer.sh .cache/perf_analyzer
set -eu
root=$1
command -v mmdebstrap > /dev/null || apt-get install --yes --quiet --no-install-recommends mmdebstrap
mkdir -p "$(dirname "$root")"
scratch=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mmdebstrap --quiet --mode=root --variant=minbase --include=libstdc++6 trixie "$scratch/root"
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_38_x86_64 --dest "$scratch" perf-analyzer==2.60.0
"${PYTHON:-python3}" -m zipfile -e "$scratch"/perf_analyzer-*.whl "$scratch/wheel"
install -m 755 "$(find "$scratch/wheel" -type f -name perf_analyzer -path '*bin*')" "$scratch/root/usr/bin/perf_analyzer"
mv "$scratch/root" "$root"
