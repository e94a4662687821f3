#!/usr/bin/env bash
# Run the image as GitHub starts a container action, but with GPUs. No option contains the text of an input: docker
# copies variables by name.
set -euo pipefail

cache=$(realpath -m -- "${HF_HOME:-${RUNNER_TOOL_CACHE:?}/antidote-ci/huggingface}")
mkdir -p "$cache"
# Paths of the host that do not exist in the container.
unset HF_HUB_CACHE HF_XET_CACHE HF_ASSETS_CACHE HF_TOKEN_PATH ANTIDOTE_CACHE

options=(--rm --gpus all)
# Written files must belong to the runner's user, who must be able to remove them.
options+=(--user "$(id -u):$(id -g)")
# Inputs may name files of these folders by their paths, which must be the same in the container.
options+=(--volume "${GITHUB_WORKSPACE:?}:$GITHUB_WORKSPACE" --workdir "$GITHUB_WORKSPACE")
options+=(--volume "${RUNNER_TEMP:?}:$RUNNER_TEMP")
options+=(--volume "$cache:/cache/huggingface")
options+=(--volume "${GITHUB_OUTPUT:?}:/github/output" --volume "${GITHUB_STEP_SUMMARY:?}:/github/summary")
for name in "${!INPUT_@}" "${!GITHUB_@}" "${!ANTIDOTE_@}" "${!HF_@}" "${!ACTIONS_ID_TOKEN_@}"; do
  options+=(--env "$name")
done
# If a name is repeated, the last value counts.
options+=(--env HF_HOME=/cache/huggingface)
options+=(--env GITHUB_OUTPUT=/github/output --env GITHUB_STEP_SUMMARY=/github/summary)

exec docker run "${options[@]}" "${IMAGE:?}"
