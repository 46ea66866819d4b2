"""Checkpoints: states return with equal bits, two are kept, a damaged one is skipped, a foreign one is refused."""

import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.file_systems import claimed
from diffexplain_fast.methods.diffexplainer.state import State
from diffexplain_fast.methods.diffexplainer.state_files import STATE_FILES
from diffexplain_fast.results.explanation import Iteration
from diffexplain_fast.runs import checkpoint
from diffexplain_fast.runs.checkpoint import Answers, Checkpoints
from diffexplain_fast.storage import read_json, sha256_file, write_json_atomic

CONFIG = {"lr": 0.1, "target": "ClassProbability(boat)", "candidates": None}
ANSWERS = partial(Answers, [1.0, -3.0], 0.006)
CPU = torch.device("cpu")


def state(step: int) -> State:
    soft = torch.randn(2, 4, generator=torch.Generator().manual_seed(step))
    adam = {"exp_avg": soft / 3, "exp_avg_sq": soft**2, "step": torch.tensor(float(step))}
    history = [Iteration(i, 1 / 3 + i, 0.1, 1e-9, 0.5) for i in range(step)]
    ranking = [{"name": "boat", "score": -0.1}, {"name": "random 0", "score": None}]
    return State(torch.stack([soft, -soft]), ranking, soft, 2 * soft, adam, (0.5, -1 / 3), step=step, history=history)


def folder_with(tmp_path: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, ANSWERS)
    for step in steps:
        checkpoints.save(state(step))
    return checkpoints


def assert_equal_states(first: State | None, second: State) -> None:
    assert first is not None
    for key in ("starts", "soft", "best"):
        assert torch.equal(getattr(first, key), getattr(second, key))
    assert first.adam.keys() == second.adam.keys()
    assert all(torch.equal(first.adam[key], value) for key, value in second.adam.items())
    assert (first.history, first.best_score, first.step) == (second.history, second.best_score, second.step)
    assert (first.ranking, first.finished) == (second.ranking, second.finished)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    tensors, values = tmp_path / "state.safetensors", tmp_path / "state.json"
    STATE_FILES.write(state(3), tensors, values)
    earlier = {key: value for key, value in read_json(values).items() if key not in ("spent", "words")}
    write_json_atomic(values, earlier)
    found = STATE_FILES.read(tensors, values, CPU)
    assert_equal_states(found, state(3))
    assert found.spent == {"forward": 0, "gradient": 0, "seconds": 0.0} and found.words == 0


def test_a_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    folder_with(tmp_path, 3)
    assert_equal_states(Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, ANSWERS).load(CPU), state(3))


def test_a_state_without_a_step_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS)
    fresh = State(torch.zeros(1, 2, 4), [{"name": "boat", "score": None}], torch.zeros(2, 4), torch.zeros(2, 4))
    checkpoints.save(fresh)
    assert_equal_states(checkpoints.load(CPU), fresh)


def test_an_empty_folder_has_no_state(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS).load(CPU) is None


def test_two_are_kept_and_strays_of_a_crash_removed(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    (tmp_path / "run" / "state-000009.json").write_text("{}")
    checkpoints.save(state(3))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    kept = ["state-000002.json", "state-000002.safetensors", "state-000003.json", "state-000003.safetensors"]
    assert names == ["LATEST.json", *kept]


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_newest_falls_back_to_the_older(tmp_path: Path, suffix: str) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    damage(tmp_path / "run" / f"state-000002.{suffix}")
    assert_equal_states(checkpoints.load(CPU), state(1))


def test_a_missing_newest_falls_back_to_the_older(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    (tmp_path / "run" / "state-000002.safetensors").unlink()
    assert_equal_states(checkpoints.load(CPU), state(1))


def test_damage_of_both_is_an_error(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1, 2)
    for number in (1, 2):
        damage(tmp_path / "run" / f"state-00000{number}.json")
    with pytest.raises(CorruptFileError, match="run"):
        checkpoints.load(CPU)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"config": {}}',
        '{"config": {}, "checkpoints": [{"name": "state-000001", "sha256": 3}]}',
        '{"config": {}, "checkpoints": [{"name": "../state-000001"}]}',
    ],
)
def test_a_damaged_list_is_an_error(tmp_path: Path, content: str) -> None:
    checkpoints = folder_with(tmp_path, 1)
    (tmp_path / "run" / "LATEST.json").write_text(content)
    with pytest.raises(CorruptFileError, match="LATEST"):
        checkpoints.load(CPU)


def rewritten(tmp_path: Path, **changes: object) -> Checkpoints:
    """Return checkpoints whose newest state was changed, with a list that agrees."""
    checkpoints = folder_with(tmp_path, 3)
    values, latest = tmp_path / "run" / "state-000001.json", tmp_path / "run" / "LATEST.json"
    values.write_text(json.dumps(json.loads(values.read_text()) | changes))
    listed = json.loads(latest.read_text())
    listed["checkpoints"][0]["sha256"]["json"] = sha256_file(values)
    latest.write_text(json.dumps(listed))
    return checkpoints


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 99},
        {"attempt": 2},
        {"attempt": -1},
        {"best_attempt": 2},
        {"best_score": "xy"},
        {"best_score": [0.5]},
        {"step": "3"},
        {"step": 0.5},
        {"finished": 1},
        {"ranking": [{"name": "boat", "score": -0.1}]},
        {"ranking": ["boat", "fish"]},
        {"history": [{"iteration": 0}]},
        {"validations": [{"attempt": 0, "step": 0, "rate": 2.0, "score": 0.0}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_state_of_another_content_is_an_error(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(CorruptFileError, match=f"{next(iter(changes))}|ranked"):
        rewritten(tmp_path, **changes).load(CPU)


def test_a_finished_state_may_have_tried_every_start(tmp_path: Path) -> None:
    found = rewritten(tmp_path, attempt=2, finished=True).load(CPU)
    assert found is not None and found.attempt == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"soft": torch.zeros(3, 4)},
        {"best": torch.zeros(2, 4, dtype=torch.int64)},
        {"starts": torch.full((2, 2, 4), float("nan"))},
        {"starts": torch.zeros(0, 2, 4)},
        {"adam": {"exp_avg": torch.zeros(2, 4)}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_tensors_of_another_content_are_an_error(tmp_path: Path, changes: dict) -> None:
    checkpoints = Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS)
    checkpoints.save(replace(state(3), **changes))
    with pytest.raises(CorruptFileError, match="the state of an optimisation, got"):
        checkpoints.load(CPU)


def test_another_configuration_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, 1)
    foreign = Checkpoints(tmp_path / "run", {**CONFIG, "lr": 0.2}, STATE_FILES, ANSWERS)
    with pytest.raises(ValueError, match=r"lr: 0\.1, not 0\.2"):
        foreign.load(CPU)
    with pytest.raises(ValueError, match=r"lr: 0\.1, not 0\.2"):
        foreign.save(state(1))


def test_scores_are_kept_until_there_is_a_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS)
    assert dict(checkpoints.scores()) == {}
    scores = checkpoints.scores()
    scores["a"] = [1 / 3, -0.0]
    scores["b"] = [1e-300]
    assert dict(checkpoints.scores()) == {"a": [1 / 3, -0.0], "b": [1e-300]}
    checkpoints.save(state(1))
    assert dict(checkpoints.scores()) == {}


def test_scores_of_another_configuration_are_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS).scores()["a"] = [1.0]
    with pytest.raises(ValueError, match=r"lr: 0\.1, not 0\.2"):
        Checkpoints(tmp_path, {**CONFIG, "lr": 0.2}, STATE_FILES, ANSWERS).scores()
    with pytest.raises(ValueError, match="the classifier, its preprocess or the target answers"):
        Checkpoints(tmp_path, CONFIG, STATE_FILES, partial(Answers, [1.0, 3.0], 0.006)).scores()


@pytest.mark.parametrize("content", ["", "{}", '{"config": {}, "scores": {"a": ["b"]}, "sha256": ""}'])
def test_damaged_scores_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "screening.json").write_text(content)
    with pytest.raises(CorruptFileError, match="screening"):
        Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS).scores()


def test_a_changed_score_is_seen(tmp_path: Path) -> None:
    Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS).scores()["a"] = [0.25]
    path = tmp_path / "screening.json"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(CorruptFileError, match="sha256"):
        Checkpoints(tmp_path, CONFIG, STATE_FILES, ANSWERS).scores()


def test_other_answers_are_another_configuration(tmp_path: Path) -> None:
    folder_with(tmp_path, 1)
    assert (
        Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, partial(Answers, [1.001, -3.001], 0.006)).load(CPU)
        is not None
    )
    foreign = Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, partial(Answers, [1.0, 3.0], 0.006))
    for refuse in (lambda: foreign.load(CPU), lambda: foreign.save(state(1))):
        with pytest.raises(ValueError, match="the classifier, its preprocess or the target answers"):
            refuse()


def test_a_checkpoint_from_before_answers_is_another_configuration(tmp_path: Path) -> None:
    checkpoints = folder_with(tmp_path, 1)
    path = tmp_path / "run" / "LATEST.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "answers"}))
    with pytest.raises(ValueError, match="same configuration"):
        checkpoints.load(CPU)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="run: wanted a folder for checkpoints"):
        Checkpoints(tmp_path / "file" / "run", CONFIG, STATE_FILES, ANSWERS)


def test_several_runs_share_one_folder(tmp_path: Path) -> None:
    """Two runs of one configuration save in turn while a third reads: every read state is one that a run has saved."""
    folder_with(tmp_path, 1)
    states, failures = {step: state(step) for step in range(1, 9)}, []

    def run(steps: range) -> None:
        try:
            for step in steps:
                Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, ANSWERS).save(states[step])
        except (OSError, ValueError) as error:
            failures.append(error)

    writers = [threading.Thread(target=run, args=(steps,)) for steps in (range(1, 9), range(3, 9))]
    for writer in writers:
        writer.start()
    reader = Checkpoints(tmp_path / "run", CONFIG, STATE_FILES, ANSWERS)
    while any(writer.is_alive() for writer in writers):
        found = reader.load(CPU)
        assert found is not None
        assert_equal_states(found, states[found.step])
    assert not failures
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    kept = [f"state-0000{number}.{suffix}" for number in (14, 15) for suffix in ("json", "safetensors")]
    assert names == ["LATEST.json", *kept]


def test_a_folder_that_another_run_locks_for_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = folder_with(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.01)
    with (
        claimed(tmp_path / "run" / ".diffexplain-lock", 0.0),
        pytest.raises(StorageError, match="run: wanted space and permission for a checkpoint, got another process"),
    ):
        checkpoints.save(state(2))
    assert_equal_states(checkpoints.load(CPU), state(1))
