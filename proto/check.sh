#!/bin/sh
# Breaking changes against the last commit that has the proto, and committed stubs against freshly made ones.
# Usage: proto/check.sh VENV/bin
set -eu
bin=$1
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

# An edited proto is held against HEAD, a committed one against the commit before.
base=HEAD
git diff --quiet HEAD -- proto && base=HEAD~1
if git cat-file -e "$base:proto/humanseg/v1/segmentation.proto" 2>/dev/null; then
    git archive "$base" proto buf.yaml | tar -x -C "$fresh"
    "$bin/buf" breaking --against "$fresh"
fi

PATH="$PWD/$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I proto --python_out="$fresh" --grpc_python_out="$fresh" \
    --mypy_out=quiet,readable_stubs:"$fresh" --mypy_grpc_out=quiet:"$fresh" proto/humanseg/v1/segmentation.proto
for name in segmentation_pb2.py segmentation_pb2.pyi segmentation_pb2_grpc.py segmentation_pb2_grpc.pyi; do
    cmp "$fresh/humanseg/v1/$name" "humanseg/v1/$name" || {
        echo "humanseg/v1/$name is not what proto/ makes; run: make proto" >&2
        exit 1
    }
done
echo "stubs are current"
