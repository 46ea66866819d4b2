"""Workers of Ray beside a launcher: the first process begins them, the others have none of their own."""

from types import SimpleNamespace
from typing import Any

import pytest

from diffexplain_fast.evidence import crew
from diffexplain_fast.runs.ray_workers import RayWorkers


class Begun(Exception):
    """What stands for workers that begin."""


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a crew reads of a drawing."""

    def actors(*arguments: object) -> None:
        raise Begun

    monkeypatch.setattr(crew, "Actors", actors)
    monkeypatch.setattr(crew, "pool_identity", lambda drawing: {})
    return SimpleNamespace(pipeline=SimpleNamespace(device="cpu"), seed=0)


@pytest.mark.parametrize("rank", ["0", None])
def test_the_first_process_begins_workers(drawing: Any, rank: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": rank, "WORLD_SIZE": "3"}.items():
        monkeypatch.delenv(name, raising=False) if rank is None else monkeypatch.setenv(name, str(value))
    with pytest.raises(Begun), crew.crew_of(RayWorkers("auto"), drawing, {}):
        pass


def test_the_other_processes_begin_none(drawing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with crew.crew_of(RayWorkers("auto"), drawing, {}) as made:
        assert made is not None and [*made({})] == [], "a crew, so that the workers of the first process are waited for"
    with crew.crew_of(None, drawing, {}) as made:
        assert made is None
