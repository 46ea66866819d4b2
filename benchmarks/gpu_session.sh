#!/bin/bash
# Everything that needs a GPU, most valuable first, in under nine minutes; safe to interrupt. Usage:
#   benchmarks/gpu_session.sh [folder for the results [stage ...]]
# With stages, those alone: what nine minutes did not reach can be run by another call.
# Needs torch with CUDA, Triton and pytest. What is missing without a network is taken from ./wheels, made beforehand by
#   pip download --no-deps -d wheels setuptools==81.0.0 diffusers==0.42.1 importlib_metadata==8.7.0 zipp
# plus jinja2, markupsafe, typer, tqdm and transformers where the machine lacks them.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results/gpu-$(date +%Y%m%d-%H%M)}
shift
chosen=" $* "
[ $# -gt 0 ] && chosen="$chosen wheels build plain "
mkdir -p "$out"
began=$SECONDS
summary="$out/summary.txt"
: > "$summary"

stage() { # name, seconds at most, command ...
    local name=$1 limit=$2 left=$((530 - SECONDS + began))
    shift 2
    case "$chosen" in "  " | *" $name "*) ;; *) return ;; esac
    if [ "$left" -lt 10 ]; then echo "$name: no time left" | tee -a "$summary"; return; fi
    timeout --signal=INT --kill-after=20 $((limit < left ? limit : left)) "$@" > "$out/$name.log" 2>&1
    echo "$name: exit $? after $((SECONDS - began)) s" | tee -a "$summary"
}

python=${PYTHON:-python3}
command=("$python" -c "from diffexplain_fast.cli.main import app; app()")
rows="$out/iteration-cuda.jsonl"
bench=("${command[@]}" bench run --dtype bfloat16 --rounds 5 --out "$rows")
test=("$python" -m pytest -q -p no:cacheprovider)
[ -d wheels ] && stage wheels 60 "$python" -m pip install -q --no-index --find-links wheels 'setuptools>=77' diffusers
chip=$("$python" -c 'import torch; print(*torch.cuda.get_device_capability(), sep=".")')
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv > "$out/device.csv" 2>&1
# Installed, not only compiled: Triton's kernels are under the package's name only where setup.py has put them there.
install=("$python" -m pip install -q --no-index --no-build-isolation --no-deps -e .)
stage build 90 env DIFFEXPLAIN_FAST_BUILD=1 TORCH_CUDA_ARCH_LIST="$chip" "${install[@]}"
"$python" -c 'import diffexplain_fast.kernels' || stage plain 30 env DIFFEXPLAIN_FAST_BUILD=0 "${install[@]}"
stage engine 90 "${test[@]}" tests/engine/fast/test_on_gpu.py tests/evidence/test_recorded.py
stage iteration 180 "${bench[@]}" --workload sd15 --budget 5GiB --budget 12GiB \
    --rival "ours, one sample per step" --rival "per-step checkpointing" --rival "hand-written loop in one CUDA graph"
stage ops 120 "$python" -m benchmarks.gpu_ops --out "$out/gpu-ops.json"
stage kernels 120 "${test[@]}" --maxfail=20 --tb=short tests/kernels -m "not slow"
stage lcm 60 "${bench[@]}" --workload sd15-lcm4 --rival "per-step checkpointing"
stage profile 40 "${command[@]}" profile --dtype bfloat16 --out "$out/profile"
stage contracts 90 "${test[@]}" --maxfail=20 --tb=short tests/ops -m "not slow" -k "triton or cuda"
stage sdxl 120 "${bench[@]}" --workload sdxl-4 --budget 16GiB --rival "per-step checkpointing"
stage half 90 "$python" -m benchmarks.gpu_ops --dtype float16 --out "$out/gpu-ops-float16.json"
stage report 20 "${command[@]}" bench report "$rows" --out "$out/bench"
for tool in memcheck racecheck; do
    stage "$tool" 60 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$python" -m benchmarks.gpu_ops --once
done
[ -f "$rows" ] && cat "$rows" >> benchmarks/results/iteration-cuda.jsonl
for log in engine iteration ops kernels lcm profile contracts sdxl half; do
    [ -f "$out/$log.log" ] && { echo; tail -n 70 "$out/$log.log"; }
done | tee -a "$summary"
