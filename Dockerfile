# One image for the GitHub Action (without arguments) and the command line (with arguments). See docs/docker.md.
ARG BASE_IMAGE=python:3.12.15-slim-trixie@sha256:05cda9777409a9c3ffddd94a4c476b79f0769a0b4857f0c7ed9226b6800b0d6f

# Each stage installs into its own environment, without pip in it. The last stage copies them into one, so that a new
# version of antidote-ci does not change the large layers.
FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_NO_DEPS=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
RUN python -m venv --without-pip /opt/venv
COPY image/prune.sh image/

FROM build AS torch
# The index of the CPU build. Empty: the CUDA build from pip's default index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Hashes of the CPU build for Python 3.11 to 3.14 on x86_64 and aarch64.
ARG TORCH_SHA256="\
    6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b \
    84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7 \
    4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2 \
    6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604 \
    3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6 \
    0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d \
    d20fa53ee744502fa4c69818a720b05ca0d37abd055d4f6e66cae155114bc691 \
    ca021f9eb2f8345c83fa03e3a04587308afb8df71bd472670b3ece00df58621c"
COPY image/locks/cuda.txt image/locks/
RUN if [ -n "${TORCH_INDEX}" ]; then \
        echo "torch==2.13.0 $(printf ' --hash=sha256:%s' ${TORCH_SHA256})" >torch.txt; \
        pip --python /opt/venv/bin/python install --index-url "${TORCH_INDEX}" --requirement torch.txt; \
    else \
        pip --python /opt/venv/bin/python install --require-hashes --requirement image/locks/cuda.txt; \
    fi \
    && sh image/prune.sh /opt/venv

FROM build AS packages
COPY image/locks/run.txt image/locks/
RUN pip --python /opt/venv/bin/python install --require-hashes --requirement image/locks/run.txt \
    && sh image/prune.sh /opt/venv

FROM build AS demo-packages
COPY image/locks/demo.txt image/locks/
RUN pip --python /opt/venv/bin/python install --require-hashes --requirement image/locks/demo.txt \
    && sh image/prune.sh /opt/venv
COPY demo demo
COPY loopback_hub loopback_hub
# These folders are not part of the wheel.
RUN cp -r demo loopback_hub /opt/venv/lib/python3*/site-packages \
    && sh image/prune.sh /opt/venv

FROM build AS antidote
COPY image/locks/build.txt image/locks/
RUN pip install --require-hashes --requirement image/locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY templates templates
COPY antidote_ci antidote_ci
COPY action action
# `action` is not part of the wheel.
RUN pip wheel --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/venv/bin/python install wheels/*.whl \
    && cp -r action /opt/venv/lib/python3*/site-packages \
    && sh image/prune.sh /opt/venv

FROM ${BASE_IMAGE} AS image
# Remove the installers of the base image. Only an attacker could use them.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* \
        /usr/bin/pip* /usr/lib/python3*/ensurepip /usr/lib/python3/dist-packages/pip* /usr/share/python-wheels \
    # Any user may write to these two folders. As volumes they stay writable under a read-only root.
    && mkdir -m 1777 /cache /workspace
COPY --from=torch /opt/venv /opt/venv
COPY --from=packages /opt/venv /opt/venv
COPY --from=antidote /opt/venv /opt/venv
# HOME: GitHub sets its own, but other users may have none. PYTHONSAFEPATH: do not import modules from the workspace.
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
# No USER: GitHub requires root for its workspace. Elsewhere, run the image as any other user.
ENTRYPOINT ["/opt/venv/bin/python", "-m", "action"]
# The image of HF Jobs that this image submits, unless the policy names another.
ARG IMAGE=""
ENV ANTIDOTE_IMAGE=${IMAGE}
ARG SOURCE=""
ARG VERSION=""
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="antidote-ci" \
      org.opencontainers.image.description="Measure, repair and publish fine-tuned language models." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

# `--target demo`: the demo with its model.
FROM image AS demo
COPY --from=demo-packages /opt/venv /opt/venv
ENTRYPOINT ["/opt/venv/bin/python", "-m", "demo"]

FROM image
