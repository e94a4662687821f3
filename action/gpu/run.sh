#!/usr/bin/env bash
# One run in the image, as GitHub would start a container action, but with the GPUs. Nothing in an option is text of an
# input: docker copies variables by their names.
set -euo pipefail

cache=$(realpath -m -- "${HF_HOME:-${RUNNER_TOOL_CACHE:?}/antidote-ci/huggingface}")
mkdir -p "$cache"
# Folders of the host that are mounted nowhere.
unset HF_HUB_CACHE HF_XET_CACHE HF_ASSETS_CACHE HF_TOKEN_PATH ANTIDOTE_CACHE

options=(--rm --gpus all)
# The files that are written belong to the runner's own user, who must be able to remove them.
options+=(--user "$(id -u):$(id -g)")
options+=(--volume "${GITHUB_WORKSPACE:?}:/github/workspace" --workdir /github/workspace)
options+=(--volume "$cache:/cache/huggingface")
options+=(--volume "${GITHUB_OUTPUT:?}:/github/output" --volume "${GITHUB_STEP_SUMMARY:?}:/github/summary")
for name in "${!INPUT_@}" "${!GITHUB_@}" "${!ANTIDOTE_@}" "${!HF_@}" "${!ACTIONS_ID_TOKEN_@}"; do
  options+=(--env "$name")
done
# The last one of a name counts.
options+=(--env HF_HOME=/cache/huggingface --env GITHUB_WORKSPACE=/github/workspace)
options+=(--env GITHUB_OUTPUT=/github/output --env GITHUB_STEP_SUMMARY=/github/summary)

exec docker run "${options[@]}" "${IMAGE:?}"
