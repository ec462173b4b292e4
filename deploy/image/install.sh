#!/bin/sh
# usage: sh install.sh EXTRAS    what the service needs, into /opt/venv, without what only a developer needs
#
# A step of the Dockerfile, for each of its images; beside it pyproject.toml and constraints.txt.
set -eu

# A humanseg with nothing but a version stands in for the real one, so that this long step is repeated only when
# dependencies change. It is taken out again: the image runs from /app like a checkout, with one humanseg on the path.
# pip stays behind as well.
mkdir humanseg
touch README.md LICENSE
echo '__version__ = "0"' > humanseg/__init__.py
python3 -m venv /opt/venv
/opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[$1]"
/opt/venv/bin/pip uninstall --yes humanseg setuptools pip

packages=$(echo /opt/venv/lib/python3*/site-packages)
find "$packages/numpy" -type d -name tests -prune -exec rm -r {} +
# ONNX Runtime's wheel has the library twice: in the Python binding, and beside it for programs in C. The second goes
# where no other file there names it; the import then shows that nothing misses it.
for library in "$packages"/onnxruntime/capi/libonnxruntime.so.*; do
    [ -e "$library" ] || continue
    others=$(find "${library%/*}" -name '*.so*' ! -path "$library")
    # shellcheck disable=SC2086  # paths of wheels, without spaces
    if ! grep -qF libonnxruntime.so $others; then
        rm "$library"
        /opt/venv/bin/python -B -c 'import onnxruntime; onnxruntime.get_available_providers()'
    fi
done
