"""Plans that say which level each step of a call has, made once for each kind of call under the current limits.

What a level keeps, and how fast its products are, follows from the kernels that run. So a call under other settings of
torch is of another kind.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.gradients import Differentiated
from diffexplain_fast.engine.graphs.kernel_settings import kernel_settings
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.engine.memory.costs import Counted, Request, count_levels, least_limit, make_plan
from diffexplain_fast.engine.memory.host import flop_per_byte
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.memory.resident import available_bytes, layout_bytes, weight_bytes
from diffexplain_fast.engine.memory.workspaces import cublas_bytes

_SHARE = 0.9
"""Share of the free memory that a plan may use; the rest is for fragmentation and for workspaces beyond the plan."""
_EASE = 0.8
"""Share of a limit that remains each time memory runs out under it."""


@dataclass
class Limits:
    """Memory that plans may use.

    Attributes:
        device: bytes for everything, weights included; None for no limit.
        free: whether the limit is the free memory of a CUDA device.
        host: bytes of host memory in which steps may be kept.
        reserve: bytes of the limit that belong to the caller.
        eased: share of the limit that remains after memory ran out.
    """

    device: int | None
    free: bool
    host: int
    reserve: int = 0
    eased: float = 1.0

    def ease(self) -> None:
        """Lower the limit, because memory ran out."""
        self.eased *= _EASE


class Call(NamedTuple):
    """What the plan of a call follows from, beside the settings of torch; values of tensors do not matter.

    Attributes:
        start: start latents [B, c, h, w].
        text, steps: see ``Request``.
        shifts: of all steps, of which the first ones are those of ``Request``.
        mode: which part of the loop is differentiated.
        split_guidance: see ``Request``.
    """

    start: Tensor
    text: Sequence[Tensor]
    shifts: Sequence[Tensor]
    steps: int
    mode: Differentiated
    split_guidance: bool


class Planning:
    """Plans over one pair of models.

    Args:
        denoiser: lean UNet, or the user's own module.
        decoder: lean decoder, or the user's own module.
        modules: the user's UNet and VAE, whose weights count.
        limits: memory that plans may use.
        trained: parameters that get a gradient.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        decoder: Decoder,
        modules: Sequence[nn.Module],
        limits: Limits,
        trained: Sequence[Tensor] = (),
    ) -> None:
        self._denoiser, self._decoder, self._modules, self._limits = denoiser, decoder, modules, limits
        self._trained_bytes = sum(map(_gradient_bytes, trained))
        self._plans: dict[Hashable, Plan] = {}
        self._requests: dict[Hashable, tuple[Request, int | None]] = {}
        self._key: Hashable = None
        self._counted: dict[Hashable, Counted] = {}
        self._rates: dict[Hashable, float | None] = {}

    @property
    def plan(self) -> Plan | None:
        """Plan of the last call, counted when this is read, under the settings of torch at that time; None before."""
        return None if self._key is None else self._planned(self._key)

    def levels(self, call: Call) -> Sequence[str]:
        """Return the storage level of each step, the decoder's last.

        Raises:
            ValueError: no plan fits into the limit.
        """
        self._key = self._kind(call)
        if self._requests[self._key][1] is None and self._limits.eased == 1.0:
            # Counting takes longer than a small model's step, and there is nothing to choose.
            steps_level, decoder = ("step", "block") if call.mode.checkpointed else ("keep", "keep")
            return self._possible([*[steps_level] * call.steps, decoder])
        return self._planned(self._key).levels

    def plan_for(self, call: Call) -> Plan:
        """Return the plan that a call would have; its errors are those of ``levels``."""
        return self._planned(self._kind(call))

    def _kind(self, call: Call) -> Hashable:
        """Return a key for all calls that share a plan, and remember the request and the limit of such a call."""
        start, text, shifts, steps, mode, split_guidance = call
        limits, limit = self._limits, self._limits.device
        if limits.free and (free := available_bytes(start.device)) is not None:
            held = weight_bytes(self._modules) + layout_bytes((self._denoiser, self._decoder), self._modules)
            limit = int(_SHARE * free) + held
        groups = [[_hollow(tensor) for tensor in group] for group in ([start], text, shifts[: len(shifts) // steps])]
        settings = kernel_settings(start.device)
        rate = self._rate(settings) if limits.host else None
        options = (steps, mode.first_step, split_guidance, mode.checkpointed, rate)
        key = (start.shape, start.dtype, text[0].shape, text[0].dtype, options, settings)
        libraries = cublas_bytes(start.device)
        self._requests[key] = Request(groups[0][0], groups[1], groups[2], *options, libraries), limit
        return key

    def forget_plans(self) -> None:
        """Forget the plans, because the limits or the reserve changed; what was counted stays."""
        self._plans.clear()

    def _rate(self, settings: Hashable) -> float | None:
        """Return the FLOP for each byte that is moved, measured once under the current settings of torch."""
        if settings not in self._rates:
            weight = next(self._modules[0].parameters())
            self._rates[settings] = flop_per_byte(weight.device, weight.dtype)
        return self._rates[settings]

    def _planned(self, key: Hashable) -> Plan:
        """Return the plan of a kind of call, which is made once and again after memory ran out."""
        if key not in self._plans:
            self._plans[key] = self._quick_plan(key) or self._full_plan(key)
        return self._plans[key]

    def _quick_plan(self, key: Hashable) -> Plan | None:
        """Return the plan that keeps everything if it fits, because then the other levels need not be counted."""
        if self._limits.eased < 1.0 or key in self._counted:
            return None
        request, limit = self._requests[key]
        try:
            return make_plan(self._beside(self._count(request, fastest=True)), limit)
        except ValueError:
            return None

    def _full_plan(self, key: Hashable) -> Plan:
        request, limit = self._requests[key]
        if key not in self._counted:
            self._counted[key] = self._count(request)
        counted, eased = self._beside(self._counted[key]), self._limits.eased
        if eased < 1.0:
            whole = make_plan(counted, None).peak if limit is None else limit
            weights = sum(counted.weights.values())
            limit = max(weights + int(eased * (whole - weights)), least_limit(counted))
        return make_plan(counted, limit, self._limits.host)

    def _count(self, request: Request, fastest: bool = False) -> Counted:
        return count_levels(self._denoiser, self._decoder, self._modules, request, fastest)

    def _beside(self, counted: Counted) -> Counted:
        """Return the counts with the bytes that no part of a call takes: gradients of weights, and the reserve."""
        more = {"gradients of trainable weights": self._trained_bytes, "reserve": self._limits.reserve}
        return counted._replace(weights={**counted.weights, **{name: size for name, size in more.items() if size}})

    def _possible(self, levels: list[str]) -> list[str]:
        """Return the levels, with "step" in place of levels that a model does not have."""
        models = [*[self._denoiser] * (len(levels) - 1), self._decoder]
        return [level if level in model.levels else "step" for level, model in zip(levels, models, strict=True)]


def _gradient_bytes(weight: Tensor) -> int:
    """Return the bytes of a weight's gradient: of one step, summed over the steps, and in the dtype of the weight."""
    wide = torch.promote_types(weight.dtype, torch.float32).itemsize
    return weight.numel() * (2 * weight.element_size() + wide)


def _hollow(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape, dtype and device that holds no memory."""
    return tensor.new_empty(1).expand(tensor.shape)
