"""Work in several processes: in order, the same as here, and here where no process may be made."""

import multiprocessing
import os

import numpy as np
import pytest
import torch

from diffexplain_fast.recipe import data, levels, processes
from diffexplain_fast.recipe.processes import in_processes
from diffexplain_fast.tinyworld.words import draw_attributes

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with fewer processors


def where(part: int) -> tuple[int, int, np.ndarray]:
    """Return a part, the process that made it, and an array."""
    return part, os.getpid(), np.full(2, part)


def failing(part: int) -> int:
    """Fail at the second part."""
    if part == 1:
        raise ValueError("no picture of part 1")
    return part


@pytest.mark.parametrize("cores", [1, 3])
def test_parts_come_in_order_from_as_many_processes_as_there_are_processors(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "processors", lambda: cores)
    made = list(in_processes(where, range(7)))
    assert [part for part, _, _ in made] == list(range(7))
    assert all(isinstance(array, np.ndarray) and (array == part).all() for part, _, array in made)
    assert ({process for _, process, _ in made} == {os.getpid()}) == (cores == 1)
    assert list(in_processes(where, [])) == []


def test_a_process_that_may_have_no_children_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "processors", lambda: 3)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert {process for _, process, _ in in_processes(where, range(4))} == {os.getpid()}


def test_an_error_in_a_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "processors", lambda: 2)
    with pytest.raises(ValueError, match="no picture of part 1"):
        list(in_processes(failing, range(3)))


def test_scenes_of_several_processes_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "processors", lambda: 2)
    monkeypatch.setattr(data, "_AT_ONCE", 4)
    scenes = [draw_attributes(np.random.default_rng([seed, 0])) for seed in range(10)]
    together, layouts = data.render_given(scenes, list(range(10))), list(levels.layouts(range(3)))
    monkeypatch.setattr(processes, "processors", lambda: 1)
    monkeypatch.setattr(data, "_AT_ONCE", 10)
    for one, other in zip(together, data.render_given(scenes, list(range(10))), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    for layout, alone in zip(layouts, levels.layouts(range(3)), strict=True):
        assert torch.equal(layout.pictures, alone.pictures)
        assert (layout.rows, layout.object) == (alone.rows, alone.object)
