"""Plans of the fast engine, from the costs of each level of each step, which are counted without running anything."""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.lean.modules import fallback_notes
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser, EngineModel
from diffexplain_fast.engine.lean.shelf import Shelf
from diffexplain_fast.engine.memory.columns import column_dtypes
from diffexplain_fast.engine.memory.counting import Count, Results, count, hollow, unwatched
from diffexplain_fast.engine.memory.plan import Cost, Plan, choose_levels, least_bytes
from diffexplain_fast.engine.memory.resident import held_tensors, layout_bytes, weight_bytes
from diffexplain_fast.errors import NoRoomError, describe, wrong_value
from diffexplain_fast.models.frozen import without_hooks

_LATENTS = 8
_NOTABLE = 0.2
"""Share of the weights from which the note mentions their other layouts."""

Model = TypeVar("Model", bound=EngineModel)


class Request(NamedTuple):
    """The call for which a plan is made.

    Attributes:
        sample: start latents [B, c, h, w].
        text: projected text, R rows each.
        shifts: one step's time shifts.
        steps: number of steps.
        first_step: first step that keeps anything.
        split_guidance: whether the first recorded step runs its unconditional rows by themselves, keeping nothing.
        checkpointed: allow only the level with one sample per step.
        flop_per_byte: FLOP in the time in which a byte is copied to host memory, None if host memory is not allowed.
        cublas: bytes of cuBLAS's workspaces; None where neither cuBLAS nor cuDNN runs.
    """

    sample: Tensor
    text: Sequence[Tensor]
    shifts: Sequence[Tensor]
    steps: int
    first_step: int
    split_guidance: bool
    checkpointed: bool
    flop_per_byte: float | None = None
    cublas: int | None = None

    def workspace(self, counted: Count) -> int:
        """Return the estimated bytes that cuDNN takes beside the tensors of a part, 0 where cuDNN does not run.

        The estimate is the size of all operands of the largest convolution: cuDNN's kernels for matrix units read
        channels last, and convert operands of another layout in their workspace. A search may choose a kernel with a
        larger workspace; torch only limits the workspace to the largest free block.

        Args:
            counted: counts of the part.
        """
        return 0 if self.cublas is None else counted.operands


class Counted(NamedTuple):
    """All costs of a call, whatever the limit.

    Attributes:
        steps: for each step the possible levels and their costs.
        heads: the same for the decoder.
        weights: bytes that are allocated all the time, by name: the user's weights, their other layouts, text and time.
        note: models that run through their own modules, and why.
    """

    steps: Sequence[Mapping[str, Cost]]
    heads: Mapping[str, Cost]
    weights: Mapping[str, int]
    note: str


@unwatched()
def count_levels(
    denoiser: Denoiser, decoder: Decoder, modules: Sequence[nn.Module], request: Request, fastest: bool = False
) -> Counted:
    """Count the levels of every part.

    Args:
        denoiser: lean UNet, or the user's own module.
        decoder: lean decoder, or the user's own module.
        modules: the user's UNet and VAE, whose weights count.
        request: the call.
        fastest: count only the level that computes the least.

    Raises:
        ValueError: the user's own modules read the values of tensors, so they cannot be counted.
    """
    weights = {"weights": weight_bytes(modules)}
    layouts = layout_bytes((denoiser, decoder), modules)
    if layouts:
        weights["weights in other layouts"] = layouts
    if request.cublas is not None:
        weights["cuBLAS's workspaces"] = request.cublas
    weights["text, time, latents, and their gradients"] = _leaf_bytes(request)
    results = Results()
    results.columns = column_dtypes(request.sample.device)
    try:
        steps = _step_costs(*_hollow(denoiser, modules[0], request), fastest, results)
        heads = _heads(*_hollow(decoder, modules[1], request), fastest, results)
    except Exception as error:  # the user's code may fail with any error
        if not (denoiser.reason or decoder.reason):
            raise
        wanted = "None, because a plan is counted on tensors without values, which the models' own modules read"
        raise wrong_value("memory", wanted, f"{type(error).__name__}: {error}") from error
    notes = [fallback_notes(denoiser, decoder)]
    if layouts > _NOTABLE * weights["weights"] and request.sample.device.type != "cpu":
        notes.append("unet.to(memory_format=torch.channels_last), and the vae's, would save the other layouts")
    return Counted(steps, heads, weights, "; ".join(note for note in notes if note))


def make_plan(counted: Counted, limit: int | None, host: int = 0) -> Plan:
    """Return the fastest plan whose predicted peak is within a limit.

    Args:
        counted: all costs.
        limit: bytes for everything, weights included; None for no limit.
        host: bytes of host memory in which steps may be kept.

    Raises:
        NoRoomError: no plan fits; the message says which limit is needed at least, and by which plan.
    """
    costs, heads, weights = counted.steps, counted.heads, sum(counted.weights.values())
    room = 2**62 if limit is None else limit - weights
    choices = {name: choose_levels(costs, head.working, room, host) for name, head in heads.items()}
    plans = {name: levels for name, levels in choices.items() if levels is not None}
    if not plans:
        least = least_limit(counted)
        nearest = make_plan(counted, least, host)
        wanted = (
            f"at least {least} bytes ({least / 2**20:.0f} MiB) for this batch, size and number of steps "
            f"(the nearest plan: {nearest.summary})"
        )
        raise NoRoomError(describe("memory", wanted, f"{limit} ({(limit or 0) / 2**20:.0f} MiB)"), least)

    def time(name: str) -> float:
        return heads[name].time + sum(cost[level].time for cost, level in zip(costs, plans[name], strict=True))

    best = min(plans, key=time)
    return _describe(counted, plans[best], best, limit)


def least_limit(counted: Counted) -> int:
    """Return the smallest limit under which there is a plan."""
    room = min(least_bytes(counted.steps, head.working) for head in counted.heads.values())
    return sum(counted.weights.values()) + room


def _describe(counted: Counted, levels: Sequence[str], decoder: str, limit: int | None) -> Plan:
    costs, head, parts = counted.steps, counted.heads[decoder], dict(counted.weights)
    weights, kept, working = sum(parts.values()), 0, 0
    for cost, level in zip(costs, levels, strict=True):
        working = max(working, kept + cost[level].working)
        kept += cost[level].kept
    for level in LEVELS:
        number = list(levels).count(level)
        if number:
            size = sum(cost[level].kept for cost, name in zip(costs, levels, strict=True) if name == level)
            parts[f"{number} {'step' if number == 1 else 'steps'}, {level}"] = size
    parts[f"decoder, {decoder}"] = head.working
    chosen = [head, *(cost[level] for cost, level in zip(costs, levels, strict=True))]
    if "cuBLAS's workspaces" in parts:
        parts["cuDNN's workspace, counted in steps and decoder"] = max(cost.workspace for cost in chosen)
    moved = sum(cost[level].host for cost, level in zip(costs, levels, strict=True))
    if moved:
        parts["in host memory, not on the device"] = moved
    again = sum(cost[level].again for cost, level in zip(costs, levels, strict=True))
    forward = sum(cost[level].forward for cost, level in zip(costs, levels, strict=True))
    peak = weights + max(working, kept + head.working)
    time = sum(cost.time for cost in chosen)
    return Plan((*levels, decoder), parts, peak, limit, again / max(forward, 1.0), counted.note, time)


def _hollow(model: Model, module: nn.Module, request: Request) -> tuple[Model, list[Tensor], Request]:
    """Return a lean model, its weights and a request, all on the meta device.

    A user's own module stays where it is; it is counted without its hooks, which could not read a value.
    """
    if model.reason:
        twin = copy.copy(model)
        own = {name: without_hooks(part) for name, part in vars(model).items() if isinstance(part, nn.Module)}
        vars(twin).update(own)
        return twin, [weight for part in own.values() for weight in part.parameters()], request
    twin = hollow(model, held_tensors([model]), [module])
    sample, *rest = (tensor.to("meta") for tensor in (request.sample, *request.text, *request.shifts))
    text, shifts = rest[: len(request.text)], rest[len(request.text) :]
    return twin, held_tensors([twin]), request._replace(sample=sample, text=text, shifts=shifts)


def _step_costs(
    denoiser: Denoiser, weights: Sequence[Tensor], request: Request, fastest: bool, results: Results
) -> list[Mapping[str, Cost]]:
    """Return for each step the possible levels and their costs."""
    whole = _level_costs(denoiser, weights, request, request.text, request.shifts, fastest, results)
    least = min(whole.values(), key=lambda cost: cost.working)
    free = {"step": Cost(0, least.working, 0.0, workspace=least.workspace)}
    steps: list[Mapping[str, Cost]] = [free if i < request.first_step else whole for i in range(request.steps)]
    if request.split_guidance:
        batch = len(request.sample)
        half = [keys[batch:] for keys in request.text]
        shifts = [shift if len(shift) == 1 else shift[batch:] for shift in request.shifts]
        steps[request.first_step] = _level_costs(denoiser, weights, request, half, shifts, fastest, results)
    return steps


def _level_costs(
    denoiser: Denoiser,
    weights: Sequence[Tensor],
    request: Request,
    text: Sequence[Tensor],
    shifts: Sequence[Tensor],
    fastest: bool,
    results: Results,
) -> dict[str, Cost]:
    levels = () if request.checkpointed else denoiser.levels
    names = [name for name in levels if LEVELS[name].keep_step and not LEVELS[name].on_host]
    names = names[:1] if fastest else names
    sample = request.sample.to(text[0].dtype)
    # Every level is counted with the time shifts as constants, because the shifts are small; they are kept for all
    # steps together, as the text is.
    inputs, outside = [sample, *text], [*weights, *shifts]
    counts = {
        name: count(functools.partial(_output, denoiser, shifts, LEVELS[name]), inputs, outside, results)
        for name in names or ["lean"]
    }
    small, (most, *_) = sample.nbytes, counts.values()
    least = min(level.total for level in counts.values())

    def cost(counted: Count, kept: int, time: float, again: float, host: int = 0) -> Cost:
        workspace = request.workspace(counted)
        return Cost(kept + small, counted.peak + small + workspace, time, again, host, workspace, most.forward)

    costs = {name: cost(level, level.kept, level.total, level.total - least) for name, level in counts.items() if names}
    if fastest and names:
        return costs
    if names and request.flop_per_byte is not None:
        # Copies run beside the computation: to host memory in the forward, back in the backward.
        last = counts["lean"]
        copy = last.kept * request.flop_per_byte
        time = max(last.forward, copy) + max(last.total - last.forward, copy)
        costs["host"] = cost(last, 0, time, last.total - least, last.kept)
    if denoiser.reason:  # the user's own modules keep nothing that could be taken back
        return {"step": cost(most, 0, most.total + most.forward, most.total + most.forward - least)}
    for level in (LEVELS[name] for name in levels or ["step"] if not LEVELS[name].keep_step):
        sizes: list[int] = []
        twice = count(functools.partial(_twice, denoiser, shifts, level, sizes), inputs, outside, results)
        costs[level.name] = cost(twice, sizes[0], twice.total, twice.total - least)
    return costs


def _output(denoiser: Denoiser, shifts: Sequence[Tensor], level: Level, rows: Tensor, *keys: Tensor) -> Tensor:
    """Return the denoiser's output at a level, for what ``count`` differentiates: the sample and the text."""
    return denoiser(rows, keys, shifts, level)


def _twice(
    denoiser: Denoiser, shifts: Sequence[Tensor], level: Level, sizes: list[int], rows: Tensor, *keys: Tensor
) -> Tensor:
    """Return the output of a step that is computed again, and append the bytes that it keeps until then."""
    shelf = Shelf()
    with torch.no_grad():
        denoiser(rows, keys, shifts, level.on(shelf))
    sizes.append(shelf.nbytes)
    return denoiser(rows, keys, shifts, level.on(shelf.again()))


def _heads(
    decoder: Decoder, weights: Sequence[Tensor], request: Request, fastest: bool, results: Results
) -> dict[str, Cost]:
    """Return the costs of the decoder's levels; the clean latents, which are its input, are too small to count."""
    names = [name for name in decoder.levels if not (request.checkpointed and LEVELS[name].keep_blocks)] or ["step"]
    costs = {}
    for name in names[:1] if fastest else names:
        counted = count(lambda latents, level=name: decoder(latents, LEVELS[level]), [request.sample], weights, results)
        again = counted.forward if name == "step" else 0
        workspace = request.workspace(counted)
        costs[name] = Cost(0, counted.peak + workspace, float(counted.total + again), workspace=workspace)
    return costs


def _leaf_bytes(request: Request) -> int:
    """Return the bytes of the projected text and the time shifts of all steps, their gradients' sums, and some latents.

    Among the latents are the noise, its copies, and the adjoints and cotangents of a step.
    """
    leaves = [(keys, 1) for keys in request.text] + [(shift, request.steps) for shift in request.shifts]
    wide = torch.promote_types(request.text[0].dtype, torch.float32).itemsize
    latents = _LATENTS * request.sample.numel() * request.sample.element_size()
    return latents + sum(number * leaf.numel() * (leaf.element_size() + wide) for leaf, number in leaves)
