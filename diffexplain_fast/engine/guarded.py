"""Outputs of the user's own modules, which plain autograd differentiates: their backward notices edited weights."""

from torch import Tensor, nn

from diffexplain_fast.engine.checkpointing import EDITED
from diffexplain_fast.models.used import UsedWeights
from diffexplain_fast.ops._autograd import transformed


class Guarded:
    """Lets the backward of a model's outputs raise where the weights have other values than in the run.

    Args:
        model: the user's own UNet or VAE.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._used: UsedWeights | None = None

    def __call__(self, output: Tensor, anew: bool = True) -> Tensor:
        """Return an output of the model, which has just run.

        Args:
            output: the output; one without a graph has no backward, and ``torch.func`` none of tensors.
            anew: whether the weights may have changed since the last output, as between two calls of a user.
        """
        if output.grad_fn is None or transformed(output):
            return output
        if self._used is None or (anew and not self._used.of(self._model)):
            self._used = UsedWeights(self._model)
        used = self._used

        def check(gradient: Tensor) -> None:
            if used.edited_in_backward():
                raise RuntimeError(EDITED)

        output.register_hook(check)  # type: ignore[no-untyped-call]
        return output
