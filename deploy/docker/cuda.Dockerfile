# docker build -f deploy/docker/cuda.Dockerfile -t converter:cuda .
# docker run --rm --gpus all -v "$PWD/outputs:/work/outputs" converter:cuda +experiment=smoke benchmark=cuda
#
# The packages carry CUDA and cuDNN themselves; from the host comes the driver, by the NVIDIA
# Container Toolkit.
FROM python:3.11-slim

ARG EXTRAS=gpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/converter
# Alone in its layer: a change of the code does not install torch again.
COPY constraints.txt ./
RUN pip install -c constraints.txt torch torchvision
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
