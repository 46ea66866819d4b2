"""The user's own modules, which plain autograd differentiates: the backward of their outputs notices edits."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.checkpointing import EDITED, recomputing
from diffexplain_fast.engine.repeated import ANOTHER
from diffexplain_fast.models.attributes import Options
from diffexplain_fast.models.used import UsedWeights
from diffexplain_fast.models.watch import is_compiled, own_parts
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
            output: the output; one without a graph has no backward, ``torch.func`` none of tensors, and a tensor of
                another kind, as those without values by which FLOP are counted, is not guarded.
            anew: whether the weights may have changed since the last output, as between two calls of a user.
        """
        if output.grad_fn is None or type(output) is not Tensor or transformed(output):
            return output
        if self._used is None or (anew and not self._used.of(self._model)):
            self._used = UsedWeights(self._model)
        used = self._used

        def check(gradient: Tensor) -> None:
            if used.edited_in_backward():
                raise RuntimeError(EDITED)

        output.register_hook(check)  # type: ignore[no-untyped-call]
        return output


class Edits:
    """Notices in the backward of one call of the reference that a model is no longer as it was in the call.

    Where parts of the call run again, weights, adapters and the kinds of processors have to be the same. Hooks and
    options may change as far as the model computes the same: see ``Repeated``. Elsewhere see ``Guarded``.

    Args:
        model: UNet or VAE.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._guarded = model, Guarded(model)
        self._before: _Before | None = None

    def run(self, compute: Callable[[], Tensor], again: bool) -> Tensor:
        """Return an output of the model; what the run itself writes into the model is no edit.

        Args:
            compute: runs the model.
            again: whether a part of a call runs that runs again for the backward, for the first or the second time.

        Raises:
            RuntimeError: the model was edited since the last run, and this is the run for the backward; or what
                ``compute`` raises.
        """
        if again:
            self._look()
        try:
            output = compute()
        except RuntimeError as error:
            if str(error) == ANOTHER and self._before is not None and self._before.other_options():
                raise RuntimeError(EDITED) from error
            raise
        if not again:
            return self._guarded(output, anew=False)
        if self._before is not None:
            self._before.take_over()
        return output

    def _look(self) -> None:
        """Look at the model before it runs."""
        if not torch.is_grad_enabled():
            return
        if self._before is None:
            with torch.no_grad():
                self._before = _Before(self._model)
        elif recomputing() and self._before.edited():
            raise RuntimeError(EDITED)


class _Before:
    """The state of a model that runs again for the backward.

    Args:
        model: UNet or VAE.
    """

    def __init__(self, model: nn.Module) -> None:
        self._options, self._weights, self._used = Options(model), [*model.parameters()], UsedWeights(model)
        self._versions = self._look()
        self._writes = is_compiled(model) or bool(own_parts(model))

    def edited(self) -> bool:
        """Return whether the model is another one; its values are read once in each run of autograd's engine."""
        return self._options.switched() or self._versions != self._look() or self._used.edited_in_backward()

    def other_options(self) -> bool:
        """Return whether any option is another one, which explains other results and is no fault where they stay."""
        return self._options.edited()

    def take_over(self) -> None:
        """Take over what a run wrote: versions, as adapters of parameters do, and what hooks write by ``data``."""
        self._versions = self._look()
        self._options.take_over()
        if self._writes:
            self._used.take_over()

    def _look(self) -> list[int]:
        return [0 if weight.is_inference() else weight._version for weight in self._weights]
