"""Ours at memory budgets: limits in bytes, or parts of the way from the least that is kept to everything."""

import re
from collections.abc import Mapping, Sequence
from functools import partial

import torch

from diffexplain_fast.engine.memory.plan import parse_bytes
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.rivals import HOLDING, OURS, Make, ours, ours_lean, ours_within
from diffexplain_fast.measuring.bench.workloads import Images, Setting, Workload

_MIB = 2**20
DEFAULT = ("33%", "67%")
_CHECKED_SHARE = 0.5
"""Where the gradient under a limit in bytes is checked, because the few steps of the check need less than the limit."""


def budget_name(budget: str) -> str:
    """Return the name that rows have for ours at a budget."""
    return f"ours, {budget}"


def parse_budget(budget: str) -> float | int:
    """Return a budget in bytes (int), such as "8GiB", or as a share (float) of a way; anything else is a ValueError.

    "33%" is a third of the way from one sample kept per step to everything kept.
    """
    if share := re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%\s*", budget):
        if float(share[1]) > 100:
            raise wrong_value("budget", "at most 100%", budget)
        return float(share[1]) / 100
    limit = parse_bytes(budget)
    if limit is None:
        raise wrong_value("budget", "a share such as '33%', or bytes such as '8GiB'", repr(budget))
    return limit


def at_budgets(budgets: Sequence[str], workload: Workload, *, checked: bool = False) -> Mapping[str, Make]:
    """Return functions that build ours at each budget, by the name of its row; refuses what ``parse_budget`` refuses.

    The plans of the workload say what a share is. ``checked`` is for the check of the gradient on few steps, where a
    budget in bytes becomes half of the way.
    """
    parsed = {budget_name(budget): parse_budget(budget) for budget in budgets}
    if checked:
        parsed = {name: _CHECKED_SHARE if isinstance(value, int) else value for name, value in parsed.items()}
    least = most = 0
    problem = None
    if any(isinstance(value, float) for value in parsed.values()):
        try:
            least, most = span(workload)
        except Exception as error:  # such as too little memory for everything; the rows say why
            problem = f"{type(error).__name__}: {error}"

    def made(budget: float | int) -> Make:
        if isinstance(budget, int):
            return ours_within(budget)
        return ours_within(round(least + budget * (most - least))) if problem is None else partial(_refuse, problem)

    return {name: made(value) for name, value in parsed.items()}


def _refuse(problem: str, setting: Setting) -> Images:
    raise ValueError(f"no share without the plans: {problem}")


def span(workload: Workload) -> tuple[int, int]:
    """Return the bytes that ours is predicted to need with one sample kept per step, and with everything kept."""
    peaks = []
    for make in (ours_lean, ours):
        images = make(workload.setting)
        with torch.enable_grad():
            images(workload.embeds(workload.start.clone().requires_grad_()), workload.latents(0))
        if images.sampler.plan is None:
            raise ValueError("nothing was planned")
        peaks.append(images.sampler.plan.peak)
    return peaks[0], peaks[1]


def memory_plan(names: Sequence[str], budgets: Sequence[str], peak: int | None) -> list[str]:
    """Return lines that say what each rival, and ours at each budget, is expected to hold on a GPU beside ours.

    An iteration of plain autograd needs ``peak`` bytes beside the weights; None if they were not counted.
    """
    limits = {budget_name(budget): parse_budget(budget) for budget in budgets}
    most = "?" if peak is None else f"{peak / _MIB:.0f} MiB"
    lines = [f"memory plan: one rival at a time, beside {OURS}; plain autograd needs {most} and the weights"]
    for name in (*limits, *names):
        held = f"nothing between iterations, at most {most} in one"
        if isinstance(limit := limits.get(name), int):
            held = f"a recording, at most {limit / _MIB:.0f} MiB with the weights"
        elif name in HOLDING or name.startswith("ours"):
            held = f"a recording, at most {most}"
        lines.append(f"  {name}: {held}")
    return lines
