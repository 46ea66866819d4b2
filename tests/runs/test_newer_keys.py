"""Keys that checkpoints of earlier versions lack are compared with those checkpoints that have them."""

from functools import partial
from pathlib import Path

import pytest
import torch

from diffexplain_fast.runs.checkpoint import Answers, Checkpoints, StateFiles

CPU = torch.device("cpu")


def _write(state: str, tensors: Path, values: Path) -> None:
    tensors.write_text(state)
    values.write_text(state)


def run(folder: Path, newer: tuple[str, ...] = ("noise",), **config: int) -> Checkpoints[str]:
    files = StateFiles(_write, lambda tensors, values, device: tensors.read_text())
    return Checkpoints(folder, {"lr": 0.1} | config, files, partial(Answers, [1.0], 0.1), newer)


def test_a_newer_key_is_compared_only_with_checkpoints_that_have_it(tmp_path: Path) -> None:
    run(tmp_path).save("earlier")
    with pytest.raises(ValueError, match="noise: None, not 1"):
        run(tmp_path, (), noise=1).load(CPU)
    assert run(tmp_path, noise=1).load(CPU) == "earlier"
    run(tmp_path, noise=1).save("later")
    assert run(tmp_path, noise=1).load(CPU) == "later"
    with pytest.raises(ValueError, match="noise: 1, not 2"):
        run(tmp_path, noise=2).load(CPU)
    with pytest.raises(ValueError, match="other: None, not 1"):
        run(tmp_path, other=1).load(CPU)
