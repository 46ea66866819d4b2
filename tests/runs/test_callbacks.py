"""Callbacks for TensorBoard and Weights & Biases, by the real packages, without a network."""

import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import diffexplain_fast as dx
from tests.explaining import quick_explanation

KINDS = {"TensorBoard": "tensorboard", "WandB": "wandb"}


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


@needs("tensorboard")
def test_tensorboard_reads_the_steps_and_the_result(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with dx.callbacks.TensorBoard(tmp_path / "run") as board:
        explanation = quick_explanation(callback=board)
        board.add(explanation)
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    losses = [(row.step, row.value) for row in read.Scalars("optimise/loss")]
    assert losses == [(item.iteration + 1, np.float32(item.loss)) for item in explanation.history]
    assert read.Scalars("evaluate/done")[-1].value == 1
    score = explanation.activation["held_out"]
    assert read.Scalars("result/logit/held_out")[0].value == np.float32(score.mean_logit)
    grid = read.Images("result/pictures")[0]
    assert grid.width * grid.height == sum(image.width * image.height for image in explanation.images)


@needs("wandb")
def test_wandb_keeps_the_steps_and_the_result_in_a_folder(tmp_path: Path) -> None:
    with dx.callbacks.WandB(project="tiny", mode="offline", dir=tmp_path) as board:
        explanation = quick_explanation(callback=board)
        board.add(explanation)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    rows = logged(file)
    losses = [(row["optimise/step"], row["optimise/loss"]) for row in rows if "optimise/loss" in row]
    assert losses == [(item.iteration + 1, item.loss) for item in explanation.history]
    assert rows[-1]["result/logit/held_out"] == explanation.activation["held_out"].mean_logit
    assert len(list(file.parent.glob("files/media/images/result/*.png"))) == len(explanation.images)


def logged(file: Path) -> list[dict[str, float]]:
    """Return the rows of an offline run, each by name."""
    from wandb.proto.wandb_internal_pb2 import Record

    items = [Record.FromString(data).history.item for data in records(file.read_bytes())]
    return [{it.key or "/".join(it.nested_key): json.loads(it.value_json) for it in row} for row in items if row]


def records(data: bytes) -> Iterator[bytes]:
    """Give the records of a file of wandb, which has the format of LevelDB's log after 7 bytes of its own."""
    place, record, block, head = 7, b"", 32768, 7
    while place + head <= len(data):
        if (left := block - place % block) < head:
            place += left
            continue
        length, kind = struct.unpack_from("<4xHB", data, place)
        place += head + length
        record += data[place - length : place]
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_package_is_named_with_its_extra(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = KINDS[kind]
    monkeypatch.setitem(sys.modules, library, None)  # an import of it then fails
    options = {"folder": tmp_path / "run"} if kind == "TensorBoard" else {"dir": tmp_path}
    with pytest.raises(ImportError, match=rf"callbacks.{kind}: wanted the package {library} \(pip install .*{library}"):
        getattr(dx.callbacks, kind)(**options)
    assert not list(tmp_path.iterdir())
