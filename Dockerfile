# An index behind HTTP, with its page; docs/SERVICE.md says how it is run. The wheels of torch and faiss carry their own CUDA
# libraries, so one image serves with a GPU and without; TORCH_INDEX names an index of smaller wheels, such as PyTorch's for CPUs.
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=
# of pyproject.toml, with commas between: `ray` for the nodes of a cluster (deploy/)
ARG EXTRAS=
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY encoder encoder
COPY indexer indexer
COPY pipelines pipelines
# hadolint ignore=DL3013
RUN if [ -n "${TORCH_INDEX}" ]; then pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision; fi \
    && pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}"

# the scan is compiled once, here: the file system is read-only where it runs
ENV NUMBA_CACHE_DIR=/opt/kernels XDG_STATE_HOME=/tmp/state
RUN mkdir -p "${NUMBA_CACHE_DIR}" && indexer warm && useradd --uid 10001 --no-create-home hashgrain
USER 10001

EXPOSE 8360
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8360/readyz', timeout=4)"]
ENTRYPOINT ["indexer", "serve"]
CMD ["/data/index", "--host", "0.0.0.0", "--port", "8360", "--token-file", "/run/secrets/token", "--images-under", "/data"]
