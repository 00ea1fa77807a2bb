#!/bin/sh
# Generates the checked-in stubs: protos/generate.sh OUTPUT_DIRECTORY (src for the checkout).
# `make protos` runs it; `tests/contract/test_stubs.py` runs it in an empty directory and compares.
set -eu
out=$1
cd "$(dirname "$0")"
# The Open Inference Protocol's file keeps its directory and package; the first -I sets our import path.
PATH="$(dirname "${PYTHON:-python}"):$PATH" "${PYTHON:-python}" -m grpc_tools.protoc -I cxreval/api/oip=inference -I . \
  --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" --mypy_grpc_out="$out" \
  cxreval/api/oip/grpc_predict_v2.proto $(find cxreval -name '*.proto' | sort)
for directory in $(find "$out/cxreval/api" -type d -not -name __pycache__); do
  : > "$directory/__init__.py"
done
