"""The trajectory as one autograd node, whose backward runs when its images are differentiated."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from diffexplain_fast.engine.checkpointing import EDITED, apart_from_checkpoint
from diffexplain_fast.engine.fast.outside import Outside
from diffexplain_fast.engine.fast.runner import Runner
from diffexplain_fast.models.frozen import check_thawed, has_gradient, unhooked
from diffexplain_fast.models.used import Used
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order

Again = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Runner]
"""Makes a runner that repeats a call, from the start, text and time shifts of the call."""
UNREACHED = (
    "no gradient reaches what requires one: the modules of the UNet or the VAE compute without autograd, as under "
    "torch.no_grad() or by operations that have no gradient"
)
"""Why a backward cannot run where plain autograd would say that the images do not require grad."""


def sample_images(
    runner: Runner,
    again: Again,
    watch: Watch,
    start: Tensor,
    text: Sequence[Tensor],
    shifts: Sequence[Tensor],
    weights: Sequence[Tensor] = (),
    outside: Outside | None = None,
    own: bool = False,
) -> Tensor:
    """Run a call, and return images [B, 3, H, W] with one autograd node before them.

    The first backward frees the tensors that the forward kept. A later backward, of a second loss, runs the call again
    from its start, text and shifts, which autograd keeps as long as the caller retains the graph.

    Args:
        runner: runs the call and its first backward.
        again: makes a runner for each later backward.
        watch: notices edits of the models; an edit before the backward raises.
        start: this, ``text`` and ``shifts`` are those of ``Trajectory.forward``.
        weights: parameters of the models that get a gradient; the runner reads them in the models.
        outside: finds more tensors that get a gradient while the runner runs the call; None where there are none.
        own: whether the user's own UNet runs, which reads the caller's text and shifts themselves; see ``watch``.
    """
    with torch.no_grad(), apart_from_checkpoint():
        images = runner.forward(start, text, shifts)
    weights = [*weights, *(() if outside is None else outside.settled())]
    call = _Call(runner, again, Used(watch, [*weights, *((*text, *shifts) if own else ())]), images)
    return _Sampled.apply(call, (len(text), len(weights)), start, *text, *shifts, *weights)


class _Call(NamedTuple):
    """A call that has run; see ``sample_images``."""

    runner: Runner
    again: Again
    used: Used
    images: Tensor


class _Sampled(TensorFunction):
    @staticmethod
    def forward(
        ctx: Context,
        call: _Call,
        counts: tuple[int, int],
        start: Tensor,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.runner, ctx.again, ctx.used, ctx.text = call.runner, call.again, call.used, counts[0]
        ctx.first_weight = 1 + len(inputs) - counts[1]
        # Autograd returns saved weights as other objects than those in the models.
        ctx.weights = inputs[ctx.first_weight - 1 :]
        # Saved to notice a change in place, to let a second derivative raise, and to run the call again.
        ctx.save_for_backward(start, *inputs)
        return call.images

    @staticmethod
    @_disable_dynamo  # as in the call: the caller's compiled function may run the backward too
    @first_order("the sampler")
    @without_autocast
    def backward(ctx: Context, saved: tuple[Tensor, ...], dimages: Tensor) -> tuple[Tensor | None, ...]:
        runner, ctx.runner = ctx.runner, None
        if ctx.used.edited() or not all(map(has_gradient, ctx.weights)):
            raise RuntimeError(EDITED)
        check_thawed(ctx.weights)
        with apart_from_checkpoint(), unhooked(ctx.weights):
            if runner is None:
                pairs = zip(saved[: ctx.first_weight], ctx.needs_input_grad[2:], strict=False)
                leaves = [tensor.detach().requires_grad_(want) for tensor, want in pairs]
                tensors = leaves[0], leaves[1 : ctx.text + 1], leaves[ctx.text + 1 :]
                runner = ctx.again(*tensors)
                runner.forward(*tensors)
            grads = runner.backward(dimages)
        if all(grad is None for grad in grads):
            raise RuntimeError(UNREACHED)
        return None, None, *grads
