# One image: the GitHub Action (without arguments) and the command line (with them).
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# The CPU build of torch; an empty value takes torch from wherever pip looks, which on PyPI is the CUDA build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
# pip stays outside of the environment it fills: what is copied on holds no installer.
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt ./
# --no-deps: torch's index does not hold the pinned versions of what torch needs; the next step brings those.
RUN pip --python /opt/venv/bin/python install --no-deps --constraint constraints.txt \
    ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md LICENSE ./
COPY templates templates
COPY antidote_ci antidote_ci
RUN pip --python /opt/venv/bin/python install --constraint constraints.txt .
# `action` is no part of the package that others install; here it lies beside it.
COPY action action
RUN cp -r action "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib/python3*/site-packages/action

FROM ${BASE_IMAGE}
ARG REVISION=""
LABEL org.opencontainers.image.title="antidote-ci" \
      org.opencontainers.image.description="Measure, repair and publish fine-tuned language models." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# Any user may write to these two, also under a read-only root: a volume stays writable.
RUN mkdir -m 1777 /cache /workspace
COPY --from=build /opt/venv /opt/venv
# HOME: GitHub sets its own, other users of the image may have none. PYTHONSAFEPATH: no module comes from the workspace.
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    TMPDIR=/tmp \
    HF_HOME=/cache/huggingface \
    ANTIDOTE_CACHE=/cache/answers \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
VOLUME ["/cache"]
WORKDIR /workspace
# No USER: GitHub needs root for its workspace. Elsewhere run it as any other user.
ENTRYPOINT ["/opt/venv/bin/python", "-m", "action"]
