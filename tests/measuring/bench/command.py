"""``bench run`` on a tiny workload, and what it left."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.measuring.bench import compare
from diffexplain_fast.measuring.bench.rivals import BASELINES
from diffexplain_fast.measuring.bench.workloads import WORKLOADS
from diffexplain_fast.measuring.profile import roofline
from tests.measuring.bench.tiny_workload import tiny_workload


def offer_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer a tiny workload, and bounds that ours reaches on it unless it sleeps."""
    monkeypatch.setitem(WORKLOADS, "tiny", tiny_workload)
    monkeypatch.setitem(roofline.SIDES, "cpu", 128)
    monkeypatch.setitem(compare.BOUNDS, "tiny", dict.fromkeys(BASELINES, 0.3))


def bench(out: Path, *arguments: str, workload: tuple[str, ...] = ("--workload", "tiny")) -> tuple[list[Any], int, str]:
    """Return the rows of a file that one comparison on the CPU was appended to, its exit code and what it said."""
    options = ["--device", "cpu", "--rounds", "2", "--threads", str(torch.get_num_threads()), "--out", str(out)]
    done = CliRunner().invoke(app, ["bench", "run", *workload, *options, *arguments])
    lines = out.read_text().splitlines() if out.exists() else []
    return [json.loads(line) for line in lines], done.exit_code, done.output


def run(folder: Path, *rivals: str) -> tuple[dict[str, Any], int, str]:
    """Return the rows of one comparison by rival, its exit code and the last line that it said."""
    named = [word for name in (rivals or BASELINES) for word in ("--rival", name)]
    rows, code, text = bench(folder / "rows.jsonl", *named)
    return {row["rival"]: row for row in rows}, code, text.splitlines()[-1]


def scaled(images: Tensor) -> Tensor:
    """The same images, a tenth more gradient."""
    return 1.1 * images - 0.1 * images.detach()
