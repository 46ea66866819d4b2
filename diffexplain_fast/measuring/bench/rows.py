"""Rows of measurements in files of JSON lines: appended, never overwritten; read back in groups."""

import datetime
import json
import math
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.storage import storage_error

Row = dict[str, Any]
_NEEDED = ("rival", "workload", "dtype", "device")


class Group(NamedTuple):
    """The properties that rows must share for their figures to stand side by side."""

    workload: str  # by name, with the options that were changed
    dtype: str  # of the models
    device: str  # name of the GPU, or of the processor with its threads


def about(command: str, workload: str, dtype: str, device: torch.device) -> Row:
    """Return the part that all rows of a run share: time, commit, versions, command, workload and device."""
    now, record = datetime.datetime.now().astimezone(), device_record()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(record)
    run: Row = {"date": now.date().isoformat(), "run": now.isoformat(), "commit": commit(), "command": command}
    run |= {"workload": workload, "dtype": dtype, "device": record | {"name": name}, "versions": versions()}
    return run


def _processor(device: Mapping[str, object]) -> str:
    return f"{device['cpu']}, {device['threads']} threads"


def commit() -> str | None:
    """Return the commit that is measured, with "+" if files except results differ; None outside our repository."""
    here = Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here.parent), *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie in somebody else's repository, which does not track it.
    if git("ls-files", "--error-unmatch", here.name) is None or (head := git("rev-parse", "--short", "HEAD")) is None:
        return None
    changed = git("status", "--porcelain", "--", ":(top)", ":(top,exclude)benchmarks/results")
    return head + ("+" if changed else "")


def append_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Append rows, which are JSON values without numbers that are not finite, to a file, which is made if missing."""
    path, text = Path(path), "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    rest = memoryview(text.encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            while rest:  # one call unless the disk fills up, so that rows of several processes do not mix
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())  # whatever happens to this machine next, the rows stay
    except OSError as error:
        raise storage_error(path, f"space and permission for {len(text)} bytes", error) from error


def kept_rows(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines, of any form; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def read_rows(path: str | Path) -> list[Row]:
    """Read the rows of a file, in the order of their lines; a line that is not a row is a ``CorruptFileError``."""
    rows = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorruptFileError(describe(f"{path}, line {number}", "a row as JSON", error)) from error
        if not isinstance(row, dict) or not set(_NEEDED) <= set(row) or not isinstance(row["device"], dict):
            wanted = f"a row with {', '.join(_NEEDED)}"
            raise CorruptFileError(describe(f"{path}, line {number}", wanted, str(row)[:80]))
        rows.append(row)
    return rows


def group_of(row: Row) -> Group:
    """Return the group a row belongs to."""
    device = row["device"]
    return Group(row["workload"], row["dtype"], device.get("name") or _processor(device))


def latest(rows: Iterable[Row]) -> dict[Group, dict[str, Row]]:
    """Return the last row of each rival of each group, measured or refused."""
    found: dict[Group, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(group_of(row), {})[row["rival"]] = row
    return found


def figure(row: Row, key: str) -> float | None:
    """Return a figure of a row, which may say anything; None if it has none, or no finite number above 0."""
    value = row.get(key)
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    return value if sound else None
