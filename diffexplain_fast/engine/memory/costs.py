"""Plans of the fast engine: what each level of each step costs on these shapes, counted without running anything."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.lean.modules import fallback_notes
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser, Part
from diffexplain_fast.engine.memory.counting import Count, Results, count, hollow
from diffexplain_fast.engine.memory.plan import Cost, Plan, choose_levels, least_bytes
from diffexplain_fast.engine.memory.resident import held_tensors, layout_bytes, weight_bytes
from diffexplain_fast.errors import wrong_value

_LATENTS = 8
_NOTABLE = 0.2
"""Share of the weights from which their other layouts are worth a word."""

Model = TypeVar("Model", bound=Part)


class Request(NamedTuple):
    """What a plan is made for.

    Attributes:
        sample: start latents [B, c, h, w].
        text: projected text, R rows each.
        shifts: one step's time shifts.
        steps: number of steps.
        first_step: steps before it keep nothing.
        split_guidance: whether the first recorded step runs its unconditional rows by themselves, keeping nothing.
        checkpointed: allow no level but one sample per step.
        flop_per_byte: FLOP in the time in which a byte goes to host memory, None if none may.
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

    def workspace(self, seen: Count) -> int:
        """Return the most bytes that cuDNN takes beside the tensors of a part, 0 where it does not run.

        As many as all operands of the largest convolution have: cuDNN's kernels for matrix units read channels last,
        and convert operands of another layout in their workspace. torch's own bound is the largest free block, within
        which a search tries kernels that want more, and may choose one: this is an estimate, not a bound.

        Args:
            seen: counts of the part.
        """
        return 0 if self.cublas is None else seen.operands


class Counted(NamedTuple):
    """What everything costs, whatever the limit.

    Attributes:
        steps: for each step the levels it may have, and what they cost.
        heads: the same for the decoder.
        weights: bytes that are there all the time, by name: the user's weights, their other layouts, text and time.
        note: models that run through their own modules, and why.
    """

    steps: Sequence[Mapping[str, Cost]]
    heads: Mapping[str, Cost]
    weights: Mapping[str, int]
    note: str


def count_levels(
    denoiser: Denoiser, decoder: Decoder, modules: Sequence[nn.Module], request: Request, fastest: bool = False
) -> Counted:
    """Count the levels of every part.

    Args:
        denoiser: lean UNet, or the user's own module.
        decoder: lean decoder, or the user's own module.
        modules: the user's UNet and VAE, whose weights count.
        request: shapes.
        fastest: count the level alone that computes the least.
    """
    weights = {"weights": weight_bytes(modules)}
    layouts = layout_bytes((denoiser, decoder), modules)
    if layouts:
        weights["weights in other layouts"] = layouts
    if request.cublas is not None:
        weights["cuBLAS's workspaces"] = request.cublas
    weights["text, time, latents, and their gradients"] = _leaf_bytes(request)
    results: Results = {}
    steps = _step_costs(*_hollow(denoiser, modules[0], request), fastest, results)
    heads = _heads(*_hollow(decoder, modules[1], request), fastest, results)
    notes = [fallback_notes(denoiser, decoder)]
    if layouts > _NOTABLE * weights["weights"] and request.sample.device.type != "cpu":
        notes.append("unet.to(memory_format=torch.channels_last), and the vae's, would save the other layouts")
    return Counted(steps, heads, weights, "; ".join(note for note in notes if note))


def make_plan(counted: Counted, limit: int | None, host: int = 0) -> Plan:
    """Return the fastest plan whose predicted peak is within a limit.

    Args:
        counted: what everything costs.
        limit: bytes for everything, weights included; None for none.
        host: bytes of host memory that steps may be kept in.

    Raises:
        ValueError: no plan fits; the message says what is needed at least, and by which plan.
    """
    costs, heads, weights = counted.steps, counted.heads, sum(counted.weights.values())
    room = 2**62 if limit is None else limit - weights
    found = {name: choose_levels(costs, head.working, room, host) for name, head in heads.items()}
    plans = {name: levels for name, levels in found.items() if levels is not None}
    if not plans:
        least = least_limit(counted)
        nearest = make_plan(counted, least, host)
        wanted = (
            f"at least {least} bytes ({least / 2**20:.0f} MiB) for this batch, size and number of steps "
            f"(the nearest plan: {nearest.summary})"
        )
        raise wrong_value("memory", wanted, f"{limit} ({(limit or 0) / 2**20:.0f} MiB)")

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
            parts[f"{number} steps, {level}"] = size
    parts[f"decoder, {decoder}"] = head.working
    chosen = [head, *(cost[level] for cost, level in zip(costs, levels, strict=True))]
    if "cuBLAS's workspaces" in parts:
        parts["cuDNN's workspace, counted in steps and decoder"] = max(cost.workspace for cost in chosen)
    moved = sum(cost[level].host for cost, level in zip(costs, levels, strict=True))
    if moved:
        parts["in host memory, not on the device"] = moved
    again = sum(cost[level].again for cost, level in zip(costs, levels, strict=True))
    forward = sum(max(level.again for level in cost.values()) for cost in costs)  # where all is computed again
    peak = weights + max(working, kept + head.working)
    return Plan((*levels, decoder), parts, peak, limit, again / max(forward, 1.0), counted.note)


def _hollow(model: Model, module: nn.Module, request: Request) -> tuple[Model, list[Tensor], Request]:
    """Return a lean model, its weights and a request, all on the meta device; a user's own module stays where it is."""
    if model.reason:
        return model, list(getattr(model, "vae", module).parameters()), request
    twin = hollow(model, held_tensors([model]), [module])
    sample, *rest = (part.to("meta") for part in (request.sample, *request.text, *request.shifts))
    text, shifts = rest[: len(request.text)], rest[len(request.text) :]
    return twin, held_tensors([twin]), request._replace(sample=sample, text=text, shifts=shifts)


def _step_costs(
    denoiser: Denoiser, weights: Sequence[Tensor], request: Request, fastest: bool, results: Results
) -> list[Mapping[str, Cost]]:
    """Return for each step the levels it may have and what they cost."""
    whole = _level_costs(denoiser, weights, request, request.text, request.shifts, fastest, results)
    least = min(whole.values(), key=lambda cost: cost.working)
    free = {"step": Cost(0, least.working, 0.0, workspace=least.workspace)}
    steps: list[Mapping[str, Cost]] = [free if i < request.first_step else whole for i in range(request.steps)]
    if request.split_guidance:
        batch = len(request.sample)
        half = [part[batch:] for part in request.text]
        shifts = [part if len(part) == 1 else part[batch:] for part in request.shifts]
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
    counts = {}
    levels = () if request.checkpointed else denoiser.levels
    names = [name for name in levels if LEVELS[name].keep_step and not LEVELS[name].on_host]
    names = names[:1] if fastest else names
    sample = request.sample.to(text[0].dtype)
    for name in names or ["lean"]:
        # Every level is counted with the time shifts as constants: they are small.
        def function(rows: Tensor, *keys: Tensor, level: str = name) -> Tensor:
            return denoiser(rows, keys, shifts, LEVELS[level])

        # The time shifts are kept for all steps together, as the text is.
        counts[name] = count(function, [sample, *text], [*weights, *shifts], results)
    small = sample.nbytes
    least = min(found.total for found in counts.values())

    def cost(found: Count, kept: int, time: float, again: float, host: int = 0) -> Cost:
        workspace = request.workspace(found)
        return Cost(kept + small, found.peak + small + workspace, time, again, host, workspace)

    costs = {name: cost(found, found.kept, found.total, found.total - least) for name, found in counts.items()}
    if names and fastest:
        return costs
    last: Count = counts["lean"]
    if names and request.flop_per_byte is not None:
        # Copies run beside the computation, there in the forward and back in the backward.
        copy = last.kept * request.flop_per_byte
        time = max(last.forward, copy) + max(last.total - last.forward, copy)
        costs["host"] = cost(last, 0, time, last.total - least, last.kept)
    step = cost(last, 0, last.total + last.forward, last.total - least + last.forward)
    return {**(costs if names else {}), "step": step}


def _heads(
    decoder: Decoder, weights: Sequence[Tensor], request: Request, fastest: bool, results: Results
) -> dict[str, Cost]:
    """Return what the decoder costs at each of its levels; its input, the clean latents, is small."""
    names = [name for name in decoder.levels if not (request.checkpointed and LEVELS[name].keep_blocks)] or ["step"]
    found = {}
    for name in names[:1] if fastest else names:
        seen = count(lambda latents, level=name: decoder(latents, LEVELS[level]), [request.sample], weights, results)
        again = seen.forward if name == "step" else 0
        workspace = request.workspace(seen)
        found[name] = Cost(0, seen.peak + workspace, float(seen.total + again), workspace=workspace)
    return found


def _leaf_bytes(request: Request) -> int:
    """Return the bytes of the projected text and the time shifts of all steps, their gradients' sums, and some latents.

    Those are the noise with its copy and scaled, the first unconditional prediction, a step's adjoints and cotangents.
    """
    leaves = [(part, 1) for part in request.text] + [(part, request.steps) for part in request.shifts]
    wide = torch.promote_types(request.text[0].dtype, torch.float32).itemsize
    latents = _LATENTS * request.sample.numel() * request.sample.element_size()
    return latents + sum(number * part.numel() * (part.element_size() + wide) for part, number in leaves)
