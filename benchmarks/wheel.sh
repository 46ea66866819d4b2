#!/bin/bash
# Build the source distribution and from it the wheel with the CPU kernels, and try the wheel in an empty environment.
# usage: benchmarks/wheel.sh [PYTHON]    PYTHON: of the empty environment, 3.11 to 3.14; default: that of .venv
# BUILDER: the Python that builds, with torch, setuptools, wheel and ninja; default: that of .venv. ROUNDS: of bench run.
# Leaves dist/*.tar.gz and dist/*.whl. Exit code 0: without a compiler and with nothing but the declared requirements
# --version answers, doctor shows the C++ kernels, an explanation runs by them, and block checkpointing takes at least
# twice our time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD builder=${BUILDER:-$PWD/.venv/bin/python} python=${1:-${BUILDER:-$PWD/.venv/bin/python}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip=(pip -q --disable-pip-version-check)

rm -rf dist build/lib build/bdist.*
DIFFEXPLAIN_FAST_BUILD=0 "$builder" setup.py -q sdist
# From the source distribution, not from this folder: the wheel then shows that nothing is missing there.
"$builder" -m "${pip[@]}" wheel --no-build-isolation --no-deps -w dist dist/*.tar.gz
for file in dist/*; do echo "$file $(du -k "$file" | cut -f1) KiB"; done
wheel=$(echo dist/*.whl)
case $wheel in *-abi3-*) ;; *) echo "wanted a wheel with compiled kernels, got $wheel" >&2; exit 1 ;; esac

"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m "${pip[@]}" install -c constraints.txt "$root/$wheel"
cd "$work"
# A path on which there is no compiler: what runs is what the wheel brought.
mkdir bin
for tool in env sh uname; do ln -s "$(command -v $tool)" bin/; done
bare=(env -i PATH="$work/bin" HOME="$work")
command=("${bare[@]}" venv/bin/diffexplain-fast)
"${command[@]}" --version
"${command[@]}" doctor > doctor.txt
cat doctor.txt
"${command[@]}" explain tinyworld/background fish --budget "400 rows" --images 2 --json --out fish > explained.json
"$builder" - <<'CHECK'
import json, pathlib, re
said = pathlib.Path("doctor.txt").read_text()
assert re.search(r"^C\+\+ kernels +loaded$", said, re.M), "doctor: wanted the C++ kernels of the wheel to be loaded"
rate = json.loads(pathlib.Path("explained.json").read_text())["activation"]["held_out"]["rate"]
ran = json.loads(pathlib.Path("fish/explanation/explanation.json").read_text())["settings"]["sampler"]["implementations"]
print(f"explained: pictures of the explanation recognised {rate:.0%}; {ran}")
assert "group_norm_silu: cpp" in ran, "wanted the explanation to be computed by the C++ kernels"
CHECK
"${command[@]}" bench run --rival "plain autograd" --device cpu --threads 2 --rounds "${ROUNDS:-9}" --out bench.jsonl
"$builder" - <<'CHECK'
import json, pathlib
rows = {row["rival"]: row for row in map(json.loads, pathlib.Path("bench.jsonl").read_text().splitlines())}
ratio = next(row["times_ours"] for name, row in rows.items() if "block" in name)
print(f"block checkpointing takes {ratio:.2f} times our time")
assert ratio >= 2, "wanted at least 2"
CHECK
