#!/bin/bash
# Build the wheel with the CPU kernels inside, and try it in an empty environment without a compiler.
# usage: benchmarks/wheel.sh [PYTHON]    PYTHON: of the empty environment, 3.11 to 3.14; default: that of .venv
# Leaves dist/*.whl. Exit code 0: doctor shows the C++ kernels and block checkpointing takes at least twice our time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD builder=${BUILDER:-$PWD/.venv/bin/python} python=${1:-$builder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf dist/*.whl build/lib build/bdist.*
DIFFEXPLAIN_FAST_BUILD=auto "$builder" -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .
wheel=$(echo dist/*.whl)
echo "$wheel $(du -k "$wheel" | cut -f1) KiB"

"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check -c constraints.txt "$root/$wheel"
cd "$work"
# A path on which there is no compiler: what runs is what the wheel brought.
mkdir bin
for tool in env sh uname; do ln -s "$(command -v $tool)" bin/; done
bare=(env -i PATH="$work/bin" HOME="$work")
"${bare[@]}" venv/bin/diffexplain-fast doctor > doctor.txt
cat doctor.txt
"$builder" - <<'CHECK'
import pathlib, re
said = pathlib.Path("doctor.txt").read_text()
assert re.search(r"^C\+\+ kernels +loaded$", said, re.M), "doctor: wanted the C++ kernels of the wheel to be loaded"
CHECK
"${bare[@]}" venv/bin/diffexplain-fast bench run --device cpu --threads 2 --rounds "${ROUNDS:-9}" --out bench.jsonl
"$builder" - <<'CHECK'
import json, pathlib
rows = {row["rival"]: row for row in map(json.loads, pathlib.Path("bench.jsonl").read_text().splitlines())}
ratio = next(row["times_ours"] for name, row in rows.items() if "block" in name)
print(f"block checkpointing takes {ratio:.2f} times our time")
assert ratio >= 2, "wanted at least 2"
CHECK
