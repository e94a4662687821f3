#!/bin/sh
# Remove files that are not needed at run time from the environment $1, and compile the rest.
set -eu
site=$(echo "$1"/lib/python3*/site-packages)
# `import torch` requires torch_shm_manager. The other programs in that folder are tests.
find "$site"/torch/bin -mindepth 1 ! -name torch_shm_manager -prune -exec rm -r {} + 2>/dev/null || true
rm -rf "$site"/torch/test "$site"/torch/include "$site"/torch/share/cmake
find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -r {} +
find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.c' -o -name '*.cpp' \
    -o -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.hpp' -o -name '*.exe' \) -delete
# Keep only the commands python and antidote-ci.
find "$1"/bin -mindepth 1 ! -name 'python*' ! -name antidote-ci -delete
# unchecked-hash: the files do not change any more, so Python need not compare dates. The model files of transformers are
# left out, because a run needs only one of hundreds. Files for later Python versions fail to compile and are ignored.
"$1"/bin/python -m compileall -q -j 0 -x 'transformers/models/(?!auto/)' --invalidation-mode unchecked-hash "$site" \
    >/dev/null || true
