#!/bin/bash
# Run the tests that need packages which `make test` does not install; CI does so after all others.
# usage: tests/extras.sh    PYTHON: default .venv/bin/python, into whose environment they are installed. WORKERS: default 2.
# What cannot be installed, because there is no network or it does not fit, is left out with the reason.
# Exit code: that of the tests, 0 where none could run. INSTALL: seconds for all that is installed, default 900.
# TESTS: seconds for the tests, default 1200.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python} install=${INSTALL:-900}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
wanted=()

limited() { # run a command within what is left of the time for installing; its output goes to the log
  local left=$((install - SECONDS))
  ((left > 0)) || { echo "no time is left" > "$log"; return 1; }
  timeout "$left" "$@" > "$log" 2>&1 || { local code=$?; ((code == 124)) && echo "no time is left" >> "$log"; return "$code"; }
}

left_out() { echo "$1: left out, $(grep -v '^ *$' "$log" | tail -n 1)"; }

extra() { # NAME MODULES TESTS: install an extra of pyproject.toml; where it can be imported its tests run
  local name=$1 modules=$2 packages
  shift 2
  packages=$("$python" -c "import tomllib, sys
print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][sys.argv[1]])" "$name") || return 1
  if limited "$python" -c "import $modules"; then
    echo "$name: is there"
  elif limited "$python" -m pip install --disable-pip-version-check -q --retries 1 --timeout 15 -c constraints.txt $packages &&
    limited "$python" -c "import $modules"; then
    echo "$name: installed"
  else
    left_out "$name" # and what was installed is removed, because a torchvision that does not fit breaks others that find it
    "$python" -m pip uninstall -qy $packages torchvision > /dev/null 2>&1
    return
  fi
  wanted+=("$@")
}

chromium() { # find Chromium, or install it where that is allowed
  local name
  for name in chromium chromium-browser google-chrome; do command -v "$name" > "$log" && return; done
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || { echo "no Chromium, and apt-get needs root" > "$log"; return 1; }
  limited apt-get update -q && limited env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium
}

axe() { # find axe-core, or install it
  [ -e node_modules/axe-core ] && return
  command -v npm > /dev/null || { echo "no npm" > "$log"; return 1; }
  limited npm install --no-save --no-package-lock axe-core
}

extra timm timm tests/models/test_optional_classifiers.py::test_timms_own_transform_agrees
extra torchvision torchvision tests/models/test_optional_classifiers.py::test_torchvisions_own_transform_agrees
extra wandb wandb tests/runs/test_callbacks.py::test_wandb_keeps_the_steps_and_the_result_in_a_folder
extra quantus quantus tests/api/test_maps.py::test_quantus_measures_our_maps
extra ray ray tests/api/test_crew.py tests/runs/test_ray_workers.py tests/cli/test_audit.py::test_workers_of_ray_draw_the_same_pictures
extra search cma tests/benchmarks/test_search.py::test_a_rival_ends_with_its_budget_and_keeps_its_best_prompt
extra imagenet "efficientnet_lite_pytorch, imagenet_w, skimage" tests/benchmarks/test_audit_imagenet.py
if chromium; then
  axe || left_out axe-core
  extra browser playwright tests/report/test_browser.py
else
  left_out browser
fi

((${#wanted[@]})) || { echo "no test can run"; exit 0; }
mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
timeout "${TESTS:-1200}" "$python" -m pytest -ra -n "${WORKERS:-2}" --dist worksteal "${wanted[@]}"
