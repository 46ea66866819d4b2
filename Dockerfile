# An image with the command line. There was no Docker where it was written: only the install of a wheel without its extras was tried, with Python 3.11 and the CPU build of torch.
#   make wheel && docker build -t diffexplain-fast . && docker run --rm diffexplain-fast
#   docker run --rm --gpus all -v "$PWD:/home/user/work" diffexplain-fast explain tinyworld/background fish --out fish
# torch comes as its publisher offers it by default, which on Linux is a build for CUDA that runs on a CPU too; for a
# smaller one, pass the index of the CPU builds beside the usual one, which has all else: --build-arg PIP_EXTRA_INDEX_URL=... .
FROM python:3.12-slim
# Triton compiles with a C compiler at its first run on a GPU; the kernels for the CPU are in the wheel.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY dist/*.whl /tmp/
ARG PIP_EXTRA_INDEX_URL
RUN for wheel in /tmp/*.whl; do pip install --no-cache-dir "$wheel[timm,torchvision]"; done && \
  useradd --create-home user && install -d -o user -g user /home/user/work
USER user
WORKDIR /home/user/work
ENTRYPOINT ["diffexplain-fast"]
CMD ["doctor"]
