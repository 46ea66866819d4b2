"""The trajectory as one autograd node: whatever differentiates its images runs its backward."""

from collections.abc import Callable, Sequence

from torch import Tensor

from diffexplain_fast.engine.checkpointing import apart_from_checkpoint
from diffexplain_fast.engine.fast.runner import Runner
from diffexplain_fast.models.frozen import unhooked
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order

Again = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Runner]
"""Makes a runner for the same call, of its start, text and time shifts."""


def sample_images(
    runner: Runner,
    again: Again,
    watch: Watch,
    start: Tensor,
    text: Sequence[Tensor],
    shifts: Sequence[Tensor],
    weights: Sequence[Tensor] = (),
) -> Tensor:
    """Run a call; images [B, 3, H, W] with one autograd node before them.

    The first backward frees what the forward kept. A later one, of a second loss, runs the call again from its start,
    text and shifts, which autograd keeps as long as the caller retains the graph.

    Args:
        runner: runs it, and its first backward.
        again: makes what runs it for each later backward.
        watch: the models as they are; if they are edited before the backward, that raises.
        start: as in ``Trajectory.forward``.
        text: as there.
        shifts: as there.
        weights: parameters of the models that get a gradient; the runner reads them itself.
    """
    return _Sampled.apply(runner, again, watch, (len(text), len(weights)), start, *text, *shifts, *weights)


class _Sampled(TensorFunction):
    @staticmethod
    def forward(
        ctx: Context,
        runner: Runner,
        again: Again,
        watch: Watch,
        counts: tuple[int, int],
        start: Tensor,
        *inputs: Tensor,
    ) -> Tensor:
        ctx.runner, ctx.again, ctx.watch, ctx.text = runner, again, watch, counts[0]
        ctx.given = 1 + len(inputs) - counts[1]
        # Autograd hands saved ones out as other objects than the models hold.
        ctx.weights = inputs[ctx.given - 1 :]
        # To notice a change in place, for a second derivative to raise, and to run the call again.
        ctx.save_for_backward(start, *inputs)
        with apart_from_checkpoint():
            return runner.forward(start, inputs[: ctx.text], inputs[ctx.text : ctx.given - 1])

    @staticmethod
    @first_order("the sampler")
    @without_autocast
    def backward(ctx: Context, saved: tuple[Tensor, ...], dimages: Tensor) -> tuple[Tensor | None, ...]:
        runner, ctx.runner = ctx.runner, None
        if ctx.watch.touched() or not all(weight.requires_grad for weight in ctx.weights):
            raise RuntimeError(
                "the UNet or the VAE was edited between the sampler's call and its backward; call the sampler again"
            )
        with apart_from_checkpoint(), unhooked(ctx.weights):
            if runner is None:
                pairs = zip(saved[: ctx.given], ctx.needs_input_grad[4:], strict=False)
                given = [part.detach().requires_grad_(want) for part, want in pairs]
                split = given[0], given[1 : ctx.text + 1], given[ctx.text + 1 :]
                runner = ctx.again(*split)
                runner.forward(*split)
            return None, None, None, None, *runner.backward(dimages)
