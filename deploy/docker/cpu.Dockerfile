# docker build -f deploy/docker/cpu.Dockerfile -t converter .
# docker run --rm -v "$PWD/outputs:/work/outputs" converter +experiment=smoke
FROM python:3.11-slim

# The index of the CPU builds of torch, which are much smaller; empty: the default build.
ARG TORCH_INDEX_URL=
ARG EXTRAS=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/converter
# Alone in its layer: a change of the code does not install torch again.
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
        pip install -c constraints.txt --no-deps torch torchvision --index-url "$TORCH_INDEX_URL"; \
    else \
        pip install -c constraints.txt torch torchvision; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY converter converter
COPY registry registry
COPY configs configs
COPY docs/errors.md docs/errors.md
RUN pip install -c constraints.txt ".[$EXTRAS]"

RUN useradd --uid 1000 --create-home converter && install -d -o converter /work
USER converter
WORKDIR /work
ENTRYPOINT ["python", "-m", "converter"]
CMD ["--help"]
