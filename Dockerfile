# An image with the command line. Not tried: there was no Docker where it was written, so that it was only read.
#   make wheel && docker build -t diffexplain-fast . && docker run --rm diffexplain-fast
#   docker run --rm --gpus all -v "$PWD:/home/user/work" diffexplain-fast explain tinyworld/background fish --out fish
# torch comes as its publisher offers it by default, which on Linux is a build for CUDA that runs on a CPU too; for a
# smaller one, pass the index of the CPU builds: --build-arg PIP_INDEX_URL=... .
FROM python:3.12-slim
# Triton compiles with a C compiler at its first run on a GPU; the kernels for the CPU are in the wheel.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY dist/*.whl /tmp/
ARG PIP_INDEX_URL
RUN for wheel in /tmp/*.whl; do pip install --no-cache-dir "$wheel[timm,torchvision]"; done && useradd --create-home user
USER user
WORKDIR /home/user/work
ENTRYPOINT ["diffexplain-fast"]
CMD ["doctor"]
