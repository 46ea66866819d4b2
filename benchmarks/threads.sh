#!/bin/bash
# Measure how a command's threads behave on a busy machine, and under a quota of one core; run it on an idle machine.
# usage: benchmarks/threads.sh [ARGUMENTS]    ARGUMENTS: of diffexplain-fast; default: demo, which takes about half an hour
# PYTHON: default .venv/bin/python. BUSY: number of busy processes, default 8. OUT: a file to which a row of JSON is appended,
# such as benchmarks/results/threads.jsonl; it has the load before, so that a row of a machine that was busy shows as one.
# The quota needs root and Linux's control groups, version 1, or 2 with the cpu controller; without them it is not measured.
# Exit code 0: beside the busy processes at most 8 times the idle time, under the quota at most 1.3 times the ideal, which
# is the time of one thread on the idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python} work=$(mktemp -d) busy=()
(($#)) || set -- demo --out "$work/demo"
command=("$python" -c 'from diffexplain_fast.cli.main import app; app()' "$@")
if [ -d /sys/fs/cgroup/cpu ]; then mount=/sys/fs/cgroup/cpu; else mount=/sys/fs/cgroup; fi
group=$mount/diffexplain-threads-$$

cleanup() {
  for process in ${busy[@]+"${busy[@]}"}; do kill "$process" 2> /dev/null || true; done
  rmdir "$group" 2> /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

seconds() { # of the command; what comes before it is an environment or a wrapper
  local began=$EPOCHREALTIME
  "$@" "${command[@]}" > "$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
  awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $began }"
}

limited() { # run within the quota, which the command sees as a container sees its own
  unshare --mount sh -c 'echo $$ > "$1/cgroup.procs"; mount --bind "$1" "$2"; shift 2; exec "$@"' - "$group" "$mount" "$@"
}

within() { # say a ratio and its bar
  awk "BEGIN { ratio = $2 / $3; printf \"%s: %.1f s, %.2f times; wanted at most %s\n\", \"$1\", $2, ratio, $4; exit ratio > $4 }"
}

append() { # a row of the figures to $OUT, if that is set
  [ -z "${OUT:-}" ] || "$python" - "$OUT" "$idle" "$one" "${quota:-}" "$loaded" "${BUSY:-8}" "$load" "$*" <<'ROW'
import json, pathlib, sys

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.bench.rows import commit

out, idle, one, quota, loaded, busy, load, arguments = sys.argv[1:]
figures = {"idle": float(idle), "one_thread": float(one), "quota_of_one_core": float(quota) if quota else None}
figures |= {"busy_processes": int(busy), "beside_them": float(loaded), "beside_them_over_idle": float(loaded) / float(idle)}
figures["quota_over_one_thread"] = float(quota) / float(one) if quota else None
row = {"arguments": arguments, **figures, "load_before": [float(part) for part in load.split()]}
with pathlib.Path(out).open("a", encoding="utf-8") as file:
    file.write(json.dumps(row | {"commit": commit(), "versions": versions(), "device": device_record()}) + "\n")
ROW
}

load=$(cut -d' ' -f1-3 /proc/loadavg)
echo "other load when it began: $load; $(nproc) processors"
seconds env > /dev/null # what is made once and kept, such as compiled kernels and the classifier of the demo
idle=$(seconds env)
one=$(seconds env OMP_NUM_THREADS=1)
echo "idle: $idle s; one thread: $one s"
status=0
if mkdir "$group" 2> /dev/null && { echo 100000 > "$group/cpu.cfs_quota_us" || echo "100000 100000" > "$group/cpu.max"; } 2> /dev/null &&
  limited true 2> /dev/null; then
  quota=$(seconds limited)
  within "quota of one core" "$quota" "$one" 1.3 || status=1
else
  echo "quota of one core: not measured, it needs root and control groups with a cpu controller"
fi
for _ in $(seq "${BUSY:-8}"); do
  sh -c 'while :; do :; done' &
  busy+=($!)
done
loaded=$(seconds env)
within "beside ${BUSY:-8} busy processes" "$loaded" "$idle" 8 || status=1
append "${@/$work/FOLDER}"
exit $status
