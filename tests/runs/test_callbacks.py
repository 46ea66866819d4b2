"""Callbacks for TensorBoard and Weights & Biases, by the real packages, without a network."""

import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import diffexplain_fast as dx
from diffexplain_fast.errors import StorageError
from tests.explaining import NAMED, quick_explanation

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


@needs("tensorboard")
def test_tensorboard_keeps_every_result_and_the_name_of_a_prompt(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    explanation = quick_explanation(iterations=1)
    with dx.callbacks.TensorBoard(tmp_path) as board:
        board.add(explanation)
        board.add(replace(explanation, named=NAMED))
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    for name in ("result/logit/held_out", "result/words/text_summary", "result/pictures"):
        rows = read.Scalars(name) if "logit" in name else read.Images(name) if "pict" in name else read.Tensors(name)
        assert [row.step for row in rows] == [1, 2]
    assert b"blue desert" in rows_of(read)[1]


def rows_of(read: Any) -> list[bytes]:
    return [row.tensor_proto.string_val[0] for row in read.Tensors("result/words/text_summary")]


@needs("tensorboard")
def test_a_folder_that_tensorboard_cannot_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (None, 3, b"runs"):
        with pytest.raises(TypeError, match="folder: wanted a path"):
            dx.callbacks.TensorBoard(folder)
    assert not list(tmp_path.iterdir())  # no folder of the name "None"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: wanted a folder, with space and permission"):
        dx.callbacks.TensorBoard("file")


class Run:
    """A run of a stand-in for wandb."""

    def __init__(self) -> None:
        self.codes: list[int | None] = []

    def finish(self, exit_code: int | None = None) -> None:
        """Note that the run ends."""
        self.codes.append(exit_code)


def test_a_run_that_an_error_ends_is_marked_and_one_of_the_user_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()
    stand_in = SimpleNamespace(run=None, init=lambda **_: run)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with pytest.raises(KeyError), dx.callbacks.WandB():
        raise KeyError
    with dx.callbacks.WandB():
        pass
    assert run.codes == [1, 0]
    stand_in.run = run  # the user's, which wandb.init returns again
    with dx.callbacks.WandB() as board:
        board.close()
    assert run.codes == [1, 0]


@needs("wandb")
def test_wandb_keeps_the_steps_and_the_result_in_a_folder(tmp_path: Path) -> None:
    with dx.callbacks.WandB(project="tiny", mode="offline", dir=tmp_path) as board:
        explanation = quick_explanation(callback=board)
        board.add(explanation)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    rows = logged(file)
    losses = [(row["optimise/step"], row["optimise/loss"]) for row in rows if "optimise/loss" in row]
    assert losses == [(item.iteration + 1, item.loss) for item in explanation.history]
    key = "result/logit/held_out"  # which row comes last is wandb's own matter
    assert [row[key] for row in rows if key in row] == [explanation.activation["held_out"].mean_logit]
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
