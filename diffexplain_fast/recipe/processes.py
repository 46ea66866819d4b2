"""Work on several processors, where forked processes can do it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from diffexplain_fast.environment import processors

Given = TypeVar("Given")
Done = TypeVar("Done")
_MOST = 8


class _Work(Dataset[Done], Generic[Given, Done]):
    def __init__(self, run: Callable[[Given], Done], parts: Sequence[Given]) -> None:
        self._run, self._parts = run, parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, place: int) -> Done:
        return self._run(self._parts[place])


def _as_it_is(made: Done) -> Done:
    return made


def in_processes(run: Callable[[Given], Done], parts: Sequence[Given]) -> Iterator[Done]:
    """Yield what a function makes of each of several parts, in their order, made by a process for each processor.

    The processes are forked, as torch's loaders do, so that nothing is imported again. Where that cannot be, on one
    processor or in a process that may have no children, the function runs here.

    Args:
        run: of one part. What it returns should hold arrays, because containers have little of the shared memory that
            tensors take; and it must not use torch's threads.
        parts: in order.
    """
    forked = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    workers = min(processors(), len(parts), _MOST) if forked else 1
    if workers < 2:
        yield from map(run, parts)
        return
    yield from DataLoader(
        _Work(run, parts),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the loader draws from it, and not from the user's
        multiprocessing_context="fork",
    )
