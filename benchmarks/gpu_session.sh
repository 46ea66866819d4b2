#!/bin/bash
# Everything that needs a GPU, most valuable first, in under nine minutes; safe to interrupt. Usage:
#   benchmarks/gpu_session.sh [folder for the results]
# Needs torch with CUDA, Triton, pytest and diffusers; wheels in ./wheels are installed first if there are any.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results/gpu-$(date +%Y%m%d-%H%M)}
mkdir -p "$out"
began=$SECONDS
summary="$out/summary.txt"
: > "$summary"

stage() { # name, seconds at most, command ...
    local name=$1 limit=$2 left=$((530 - SECONDS + began))
    shift 2
    if [ "$left" -lt 10 ]; then echo "$name: no time left" | tee -a "$summary"; return; fi
    timeout --signal=INT $((limit < left ? limit : left)) "$@" > "$out/$name.log" 2>&1
    echo "$name: exit $? after $((SECONDS - began)) s" | tee -a "$summary"
}

python=${PYTHON:-python3}
command=("$python" -c "from diffexplain_fast.cli.main import app; app()")
rows=benchmarks/results/iteration-cuda.jsonl
[ -d wheels ] && stage wheels 60 "$python" -m pip install -q --no-index --find-links wheels diffusers
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv > "$out/device.csv" 2>&1
stage build 90 env DIFFEXPLAIN_FAST_BUILD=1 TORCH_CUDA_ARCH_LIST=9.0 "$python" setup.py -q build_ext --inplace
stage kernels 120 "$python" -m pytest -q -x -p no:cacheprovider tests/kernels -m "not slow"
stage engine 60 "$python" -m pytest -q -p no:cacheprovider tests/engine/fast/test_on_gpu.py
stage ops 90 "$python" -m benchmarks.gpu_ops --out "$out/gpu-ops.json"
stage iteration 200 "${command[@]}" bench run --workload sd15 --dtype bfloat16 --rounds 3 --out "$rows" \
    --rival "ours, one sample per step" --rival "per-step checkpointing" --rival "hand-written loop in one CUDA graph"
stage report 20 "${command[@]}" bench report "$rows" --out "$out/bench"
stage sanitizer 60 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$python" -m pytest -q -x -p no:cacheprovider tests/kernels/test_geglu.py tests/kernels/test_guided_step.py -m "not slow"
stage profile 40 "${command[@]}" profile --out "$out/profile"
cp "$rows" "$out/" 2> /dev/null
for log in engine ops iteration profile; do echo; tail -n 40 "$out/$log.log"; done | tee -a "$summary"
