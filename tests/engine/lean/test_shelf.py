"""Costly results of a step that is computed again: kept once, taken back once, and never computed twice."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import Tensor

from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.lean.shelf import Shelf
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.counting import Counting, Results, live_bytes
from diffexplain_fast.engine.memory.tape import Memory
from tests.tiny import tiny_sd

EVERYTHING = replace(LEVELS["costly"], costly=0.0)
"""The level for which every result that can be kept is costly enough."""


def test_results_are_computed_the_first_time_and_taken_in_order_the_second() -> None:
    numbers = count()

    def computed() -> tuple[Tensor]:
        return (torch.full((2,), float(next(numbers))),)

    shelf = Shelf()
    first = [shelf.results(computed)[0] for _ in range(3)]
    assert shelf.nbytes == sum(result.nbytes for result in first)
    shelf.again()
    second = [shelf.results(computed)[0] for _ in range(3)]
    assert all(one is other for one, other in zip(first, second, strict=True)) and next(numbers) == 3
    assert shelf.nbytes == 0


@pytest.mark.parametrize(("flop", "kept"), [(4999.0, False), (5000.0, True)])
def test_only_what_took_many_operations_is_kept(flop: float, kept: bool) -> None:
    shelf = Shelf()
    LEVELS["costly"].on(shelf).kept(flop, lambda _: (torch.ones(3),))
    assert bool(shelf.nbytes) is kept
    LEVELS["again"].on(shelf).kept(flop, lambda _: (torch.ones(3),))
    assert bool(shelf.nbytes) is kept


@pytest.mark.parametrize("costly", [0.0, torch.inf])
def test_what_is_small_is_remembered_unless_it_is_part_of_what_is_kept(costly: float) -> None:
    level, numbers = replace(LEVELS["again"], costly=costly), count()

    def layer(inside: Level) -> tuple[Tensor, ...]:
        (small,) = inside.remembered(lambda: (torch.full((1,), float(next(numbers))),))
        return (small + torch.ones(8),)

    shelf = Shelf()
    first = level.on(shelf).kept(1.0, layer)[0]
    assert shelf.nbytes == (first.nbytes if costly == 0.0 else 4)
    assert torch.equal(level.on(shelf.again()).kept(1.0, layer)[0], first) and next(numbers) == 1
    assert level.kept(1.0, layer)[0][0] == 3, "without a shelf, nothing is remembered"


def step_of(lean: LeanUNet) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Sample, text and time shifts of a step with guidance."""
    config, generator = lean.unet.config, torch.Generator().manual_seed(0)
    sample = torch.randn(1, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    embeds = torch.randn(2, 5, config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        text, (shifts,) = lean.project(embeds), lean.shifts(torch.tensor([500.0]), None)
    return sample.requires_grad_(), [part.requires_grad_() for part in text], shifts


def test_a_step_keeps_what_its_shelf_counts_and_computes_no_kept_result_again() -> None:
    lean = LeanUNet(tiny_sd().unet)
    sample, text, shifts = step_of(lean)

    def part(level: Level) -> Tensor:
        return lean(sample, text, shifts, level)

    flop, gradients = {}, {}
    some = replace(EVERYTHING, costly=400.0)  # first convolutions of some blocks, second ones of others
    levels = {"keep": LEVELS["keep"], "again": LEVELS["again"], "some": some, "costly": EVERYTHING}
    for name, level in levels.items():
        memory = Memory((), None)
        part(level)  # lays out weights
        with live_bytes() as live:
            out, kept = memory.forward(part, level, keep=True)
            assert kept is not None
            if kept.shelf is not None:
                assert live.now == kept.shelf.nbytes + out.nbytes
        with Counting(Results()) as counting:
            gradients[name] = memory.backward(part, level, [kept], [sample, *text], [torch.ones_like(out)])
        flop[name] = counting.flop
        assert kept.shelf is None or kept.shelf.nbytes == 0
    for name in ("again", "some", "costly"):
        for one, other in zip(gradients["keep"], gradients[name], strict=True):
            assert one is not None and other is not None and torch.equal(one, other)
    assert flop["costly"] < flop["some"] < flop["again"]
    # Of the blocks' convolutions none is run again: the first, the last, and those that change the size remain.
    assert flop["keep"] < flop["costly"] < (flop["keep"] + flop["again"]) / 2
