#!/bin/bash
# Everything that needs a GPU, most valuable first; safe to interrupt. Usage, with options in this order:
#   benchmarks/gpu_session.sh [--rehearse] [second] OUT [STAGE ...]
# OUT gets two files, renewed after every stage: gpu.tgz (rows, tables and logs of all stages so far) and summary.txt,
# one line a stage: "STAGE: done in N s", "STAGE: failed (exit K): last line of its log", "STAGE: no time left".
# The first call takes at most 420 s. "second" is a later call on the same machine, at most 240 s: of the stages that are
# not done yet, those that failed come first. STAGE names limit a call to some, with what they need: wheels and build.
# --rehearse needs no card: every stage runs on the CPU, small, to the point where it would need one, and its line is
# "STAGE: reached the card". Nothing is installed then, and each stage may take ten times as long.
# Needs torch with CUDA, Triton and pytest. What is missing without a network is taken from ./wheels, made beforehand by
#   pip download --no-deps -d wheels setuptools==81.0.0 diffusers==0.42.1 importlib_metadata==8.7.0 zipp
# plus jinja2, markupsafe, typer, tqdm and transformers where the machine lacks them. dry_run.sh reads that line.
set -uo pipefail
# A shell that starts this in the background makes it ignore SIGINT, which bash cannot undo by itself.
case "$(trap -p INT)" in "trap -- '' "*) exec env --default-signal=INT bash "$0" "$@" ;; esac
rehearse='' second=''
[ "${1:-}" = --rehearse ] && { rehearse=1; shift; }
[ "${1:-}" = second ] && { second=1; shift; }
[ $# -ge 1 ] || { sed -n 2,3p "$0"; exit 2; }
python=${PYTHON:-python3}
if [ -z "$rehearse" ]; then
    nvidia-smi -L > /dev/null 2>&1 || { echo "gpu_session: no card: nvidia-smi finds none"; exit 3; }
    "$python" -c 'import torch; torch.zeros(1, device="cuda")' || { echo "gpu_session: torch cannot use the card"; exit 3; }
fi
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
shift
cd "$(dirname "$0")/.." || exit 2
work=build/gpu-session budget=420
[ -n "$second" ] && budget=240
[ -n "$rehearse" ] && work=$out/work budget=86400
[ -n "$second" ] || rm -rf "$work"
mkdir -p "$work"
state=$work/stages.txt summary=$work/summary.txt child=''
touch "$state"
cp "$state" "$work/before.txt"
: > "$summary"

archive() { # renewed in one step: whoever stops this finds the one before or this one
    tar -czf "$out/.gpu.tgz" -C "$work" . && mv "$out/.gpu.tgz" "$out/gpu.tgz"
    cp "$summary" "$out/.summary.txt" && mv "$out/.summary.txt" "$out/summary.txt"
}

stop() {
    trap '' INT TERM
    [ -n "$child" ] && kill -TERM "$child" 2> /dev/null && wait "$child"
    [ -n "$child" ] && note "$name" "interrupted"
    archive
    exit 130
}
trap stop INT TERM

note() { # stage, what became of it: the last word on a stage counts
    echo "$1: $2" | tee -a "$summary"
    sed -i "/^$1: /d" "$state"
    echo "$1: $2" >> "$state"
}

stage() { # name, seconds at most, command of the card, ::, command of the rehearsal
    name=$1
    local limit=$2 left=$((budget - 8 - SECONDS)) code card=() here=()
    shift 2
    while [ "$1" != :: ]; do card+=("$1"); shift; done
    shift && here=("$@")
    # A rehearsal may be on any machine, and what it does on a CPU takes longer.
    [ -n "$rehearse" ] && card=("${here[@]}") limit=$((10 * limit))
    if [ "$left" -lt 15 ]; then note "$name" "no time left"; return; fi
    # In the background, so that a signal reaches this script at once; SIGTERM, which no shell lets a child ignore.
    local began=$SECONDS
    timeout --kill-after=8 $((limit < left ? limit : left)) "${card[@]}" > "$work/$name.log" 2>&1 < /dev/null &
    child=$!
    wait "$child"
    code=$?
    child=''
    if [ "$code" -ne 0 ]; then
        note "$name" "failed (exit $code): $(grep -v '^[[:space:]]*$' "$work/$name.log" | tail -n 1 | cut -c1-300)"
    elif [ -n "$rehearse" ]; then
        note "$name" "reached the card"
    else
        note "$name" "done in $((SECONDS - began)) s"
    fi
    archive
}

# What a stage was doing when its time was up is in its log: the stack, every half minute.
stacks="import faulthandler; faulthandler.dump_traceback_later(30, repeat=True)"
app=("$python" -c "$stacks; from diffexplain_fast.cli.main import app; app()")
rows=$work/iteration-cuda.jsonl
small=("${app[@]}" bench run --device cpu --workload tinyworld --steps 1 --batch 1 --rounds 2 --out "$rows")
# Most of a test's time is a kernel's compilation, which needs a core and not the card.
test=("$python" -m pytest -q -p no:cacheprovider)
[ -z "$rehearse" ] && "$python" -c 'import xdist' 2> /dev/null && test+=(-n 8 -p no:benchmark)
collect=("${test[@]}" --collect-only)
ops=("$python" -m benchmarks.gpu_ops)
graph="hand-written loop in one CUDA graph"

bench() { # stage, seconds at most, options of the card
    stage "$1" "$2" "${app[@]}" bench run --device cuda --dtype bfloat16 --rounds 5 --out "$rows" \
        --seconds $(($2 - 15)) "${@:3}" :: "${small[@]}" --rival "per-step checkpointing" --budget 12GiB
}

do_wheels() {
    [ -d wheels ] || return 0
    local install=("$python" -m pip install -q --no-index --find-links wheels)
    stage wheels 20 "${install[@]}" 'setuptools>=77' diffusers :: "${install[@]}" --dry-run 'setuptools>=77' diffusers
}
# Installed, not only compiled: Triton's kernels are under the package's name only where setup.py has put them there.
do_build() {
    local pip=("$python" -m pip) plain=(-q --no-index --no-build-isolation --no-deps) chip=
    [ -n "$rehearse" ] || chip=$("$python" -c 'import torch; print(*torch.cuda.get_device_capability(), sep=".")')
    stage build 75 env DIFFEXPLAIN_FAST_BUILD=1 TORCH_CUDA_ARCH_LIST="$chip" "${pip[@]}" install "${plain[@]}" -e . \
        :: "${pip[@]}" wheel "${plain[@]}" -w "$work/wheel" .
    [ -n "$rehearse" ] || "$python" -c 'import diffexplain_fast.kernels' ||
        DIFFEXPLAIN_FAST_BUILD=0 "${pip[@]}" install "${plain[@]}" -e . > "$work/plain.log" 2>&1
}
do_compile() { stage compile 75 "$python" -m benchmarks.precompile :: "$python" -m benchmarks.precompile --workload tinyworld; }
do_ours() { bench ours 110 --workload sd15 --budget 5GiB --budget 12GiB --rival "$graph"; }
do_ops() { stage ops 60 "${ops[@]}" --out "$work/gpu-ops.json" :: "${ops[@]}" --device cpu --out "$work/gpu-ops.json"; }
do_engine() { local on=(tests/engine/fast/test_on_gpu.py tests/evidence/test_recorded.py)
    stage engine 50 "${test[@]}" "${on[@]}" :: "${test[@]}" "${on[@]}"; }
do_kernels() { stage kernels 60 "${test[@]}" --maxfail=20 --tb=short tests/kernels -m "not slow" \
    :: "${collect[@]}" tests/kernels; }
do_profile() { stage profile 35 "${app[@]}" profile --device cuda --dtype bfloat16 --out "$work/profile" \
    :: "${app[@]}" profile --device cpu --out "$work/profile"; }
do_rivals() { bench rivals 70 --workload sd15 --rival "ours, one sample per step" --rival "per-step checkpointing"; }
do_lcm() { bench lcm 45 --workload sd15-lcm4 --rival "per-step checkpointing"; }
do_contracts() { stage contracts 45 "${test[@]}" --maxfail=20 --tb=short tests/ops -m "not slow" -k "triton or cuda" \
    :: "${collect[@]}" tests/ops; }
do_sdxl() { bench sdxl 90 --workload sdxl-4 --budget 16GiB --rival "per-step checkpointing"; }
do_half() { stage half 50 "${ops[@]}" --dtype float16 --out "$work/gpu-ops-float16.json" \
    :: "${ops[@]}" --device cpu --once; }
do_report() { stage report 15 "${app[@]}" bench report "$rows" --out "$work/bench" \
    :: "${app[@]}" bench report "$rows" --out "$work/bench"; }
do_memcheck() { sanitizer memcheck; }
do_racecheck() { sanitizer racecheck; }
sanitizer() {
    stage "$1" 50 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$1" --error-exitcode 9 "${ops[@]}" --once \
        :: "${ops[@]}" --device cpu --once
}

# The limits of the first line fit the first call; the clock ends both.
order="wheels build compile ours ops kernels"
order="$order engine profile rivals report lcm contracts sdxl half memcheck racecheck"
if [ -n "$second" ]; then
    failed='' rest=''
    for each in $order; do
        case "$(grep "^$each: " "$work/before.txt")" in
            *": done in "* | *": reached the card") ;;
            *": failed "* | *": interrupted") failed="$failed $each" ;;
            *) rest="$rest $each" ;;
        esac
    done
    order="$failed $rest report"
fi
[ $# -gt 0 ] && chosen=" $* wheels build " || chosen=''
[ -n "$rehearse" ] && [ $# -gt 0 ] && chosen=" $* "
[ -n "$rehearse" ] || nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv > "$work/device.csv"
for each in $order; do
    case "$chosen" in '' | *" $each "*) "do_$each" ;; esac
done
archive
for each in ours ops rivals engine kernels profile lcm contracts sdxl half; do
    [ -f "$work/$each.log" ] && { echo; echo "== $each"; tail -n 40 "$work/$each.log"; }
done
echo
cat "$summary"
