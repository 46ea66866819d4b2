#!/bin/bash
# The card's software without the card: every stage of gpu_session.sh up to the point where it needs a card. Usage:
#   benchmarks/dry_run.sh [folder outside the tree] | tee benchmarks/results/dry-run.txt
# Run by hand, with a network and g++: the environment takes 6 GB, and is used again while its versions stay. What the
# session would carry is downloaded as the head of gpu_session.sh says, and installed from there only.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${TMPDIR:-/tmp}/diffexplain-fast-dry-run}
folder=$(realpath -m "$folder")
case "$folder/" in "$(pwd -P)/"*) echo "dry_run: wanted a folder outside the tree, got $folder" >&2; exit 2 ;; esac
mkdir -p "$folder"

# Read on the card's machine. Those without a version are there because others look for them when they are imported.
wanted="torch==2.11.0 triton==3.6.0 numpy==2.5.2 transformers==5.17.0 tokenizers==0.23.2 huggingface-hub==1.33.0
safetensors==0.8.0 torchvision==0.26.0 accelerate==1.15.0 onnxruntime==1.30.0 peft timm scipy scikit-learn sentencepiece
pandas psutil matplotlib pillow nvidia-ml-py requests typer jinja2 tqdm zipp setuptools wheel pytest pytest-timeout
pytest-xdist pytest-benchmark pytest-cov pytest-mock hypothesis"
# nvcc 13.0 as wheels: compiler, its back end and its headers; the runtime's come with torch.
wanted="$wanted nvidia-cuda-nvcc==13.0.* nvidia-nvvm==13.0.* nvidia-cuda-crt==13.0.* nvidia-cuda-cccl==13.0.*"
read -r -a carried <<< "$(sed -n 's/^# *pip download --no-deps -d wheels //p' benchmarks/gpu_session.sh)"

venv=$folder/venv
python=$venv/bin/python
if [ "$(cat "$venv/installed" 2> /dev/null)" != "$wanted" ]; then
    for base in ${PYTHON:-python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12.*/bin/python python3.13 python3.11 python3}; do
        "$base" -c 'import venv' 2> /dev/null && break
    done
    rm -rf "$venv"
    "$base" -m venv "$venv"
    read -r -d '' -a packages <<< "$wanted" || true
    "$python" -m pip install -q --no-cache-dir "${packages[@]}" >&2
    echo "$wanted" > "$venv/installed"
fi
nvcc=$("$python" -c 'import nvidia; print(*nvidia.__path__)')/cu13
ln -sfn lib "$nvcc/lib64" # where nvcc looks for the runtime, as in the installer's layout
export PATH="$nvcc/bin:$PATH"

# As it would travel: what git knows or would add, and wheels; none of what was compiled or installed here before.
rm -rf "$folder/tree" "$folder/out"
mkdir -p "$folder/tree" "$folder/wheels"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ -e "$file" ] && printf '%s\0' "$file"
done | tar --null -T - -cf - | tar -xf - -C "$folder/tree"
"$python" -m pip download -q --no-deps -d "$folder/wheels" "${carried[@]}" >&2
cp -r "$folder/wheels" "$folder/tree/wheels"
for spec in "${carried[@]}" diffexplain-fast; do
    name=${spec%%==*}
    case " ${wanted//$'\n'/ } " in *" $name "* | *" $name=="*) ;; *) "$python" -m pip uninstall -q -y "$name" >&2 ;; esac
done

echo "$(date +%F), commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ':!benchmarks/results' || echo +)"
"$python" - "${carried[@]}" <<< '
import sys, torch
from importlib.metadata import version
print("Python", sys.version.split()[0], "| torch", torch.__version__, end=" ")
for name in ("triton", "numpy", "transformers", "torchvision", "accelerate", "peft", "timm", "pytest"):
    print("|", name, version(name), end=" ")
print("\ncarried:", *sys.argv[1:])'
nvcc --version | sed -n 's/^Cuda compilation tools, /nvcc: /p'
# Nothing can be downloaded there: neither by pip, wherever its settings of this machine look, nor by the hub's client.
for name in $(compgen -e PIP_); do unset "$name"; done
export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 HF_HUB_OFFLINE=1 PYTHON=$python TORCH_CUDA_ARCH_LIST=9.0
cd "$folder/tree"
# A rehearsal installs nothing, so that is done here, with the session's own words.
"$python" -m pip install -q --find-links wheels 'setuptools>=77' diffusers > "$folder/install.log" 2>&1 &&
    DIFFEXPLAIN_FAST_BUILD=1 "$python" -m pip install -q --no-build-isolation --no-deps -e . >> "$folder/install.log" 2>&1 &&
    "$python" -c 'import diffexplain_fast.kernels' >> "$folder/install.log" 2>&1 ||
    { echo "install: failed: $(tail -n 1 "$folder/install.log")"; exit 1; }
benchmarks/gpu_session.sh --rehearse "$folder/out" > "$folder/session.log" 2>&1 || true
cat "$folder/out/summary.txt" || { tail -n 20 "$folder/session.log" >&2; exit 1; }
! grep -vq ': reached the card$' "$folder/out/summary.txt"
