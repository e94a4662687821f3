#!/bin/sh
# Remove from the environment $1 what only its packages' own developers need, then compile the rest once.
set -eu
site=$(echo "$1"/lib/python3*/site-packages)
# torch looks for torch_shm_manager when it is imported; the other programs beside it are its tests.
find "$site"/torch/bin -mindepth 1 ! -name torch_shm_manager -prune -exec rm -r {} + 2>/dev/null || true
rm -rf "$site"/torch/test "$site"/torch/include "$site"/torch/share/cmake
find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.c' -o -name '*.cpp' \
    -o -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.hpp' -o -name '*.exe' \) -delete
# Of the commands only Python and our own are called.
find "$1"/bin -mindepth 1 ! -name 'python*' ! -name antidote-ci -delete
# Unchecked: the files never change again, so Python need not compare dates. Of transformers' hundreds of models a run
# needs one, and compiles it as it goes. What is written for a later Python stays as it is.
"$1"/bin/python -m compileall -q -j 0 -x 'transformers/models/(?!auto/)' --invalidation-mode unchecked-hash "$site" \
    >/dev/null || true
