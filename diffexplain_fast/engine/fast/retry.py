"""A call that is not finite in float16, run again in a wider dtype on copies of the models."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.fast.runner import Eager, Runner
from diffexplain_fast.engine.fast.trajectory import Job
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.models.frozen import copied
from diffexplain_fast.models.xl import decoded_dtype

Modules = tuple[nn.Module, nn.Module]
"""UNet and VAE."""


class Wider:
    """Copies of the models in another dtype, made when they are first needed.

    Args:
        dtype: dtype of the copies.
        build: returns denoiser and decoder of a UNet and a VAE.
        modules: the user's UNet and VAE.

    Attributes:
        dtype: dtype of the copies.
        decoded: dtype of the images that the user's own models give.
        calls: number of calls that ran on the copies.
    """

    def __init__(
        self, dtype: torch.dtype, build: Callable[[nn.Module, nn.Module], tuple[Denoiser, Decoder]], modules: Modules
    ) -> None:
        self.dtype, self.calls = dtype, 0
        self.decoded = decoded_dtype(*modules)
        self._build, self._modules = build, modules
        self._models: tuple[Denoiser, Decoder] | None = None

    def clear(self) -> None:
        """Forget the copies, because the models were edited."""
        self._models, self.decoded = None, decoded_dtype(*self._modules)

    def job(self, job: Job) -> Job:
        """Return a call over the copies.

        Args:
            job: the call.
        """
        if self._models is None:
            with torch.inference_mode(False), torch.no_grad():
                copies = [copied(module).requires_grad_(False).to(self.dtype) for module in self._modules]
                self._models = self._build(*copies)
        denoiser, decoder = self._models
        if self.decoded != torch.float16:
            decoder = job.decoder  # does not run in float16, so it is not the cause of the overflow
        return replace(job, denoiser=denoiser, decoder=decoder, draws=job.draws.anew())

    def of(self, tensor: Tensor) -> Tensor:
        """Return a float16 tensor in the wider dtype and any other tensor unchanged, without a graph."""
        wide = tensor.detach().to(self.dtype) if tensor.dtype == torch.float16 else tensor.detach()
        return wide.requires_grad_(tensor.requires_grad)


class Retrying:
    """Runs a call, and runs it again in a wider dtype if it is not finite.

    Args:
        runner: makes the first attempt.
        job: the call.
        wider: models for the second attempt.
    """

    def __init__(self, runner: Runner, job: Job, wider: Wider) -> None:
        self._runner, self._job, self._wider = runner, job, wider
        self._retried = False

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``.

        Raises:
            NonFiniteError: the call is not finite in the wider dtype either, or the models read a tensor of the caller
                that requires grad, which is not read by their copies.
        """
        self._tensors = start, text, shifts
        try:
            return self._runner.forward(start, text, shifts)
        except NonFiniteError as problem:
            failure = problem.with_traceback(None)  # its frames hold computed tensors
        return self._again(failure)

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``.

        Raises:
            NonFiniteError: the gradient of the loss, or the call in the wider dtype, is not finite.
        """
        if not self._retried:
            try:
                return self._runner.backward(dimages)
            except NonFiniteError as problem:
                failure = problem.with_traceback(None)
            if not dimages.isfinite().all():
                raise failure  # the loss is the caller's, and the same in every dtype
            self._again(failure)
        start, text, shifts = self._tensors
        grads = self._runner.backward(self._wider.of(dimages))
        leaves = (start, *text, *shifts)
        grads = [None if grad is None else grad.to(leaf.dtype) for grad, leaf in zip(grads, leaves, strict=True)]
        if not all(grad is None or grad.isfinite().all() for grad in grads):
            raise NonFiniteError(f"the backward is not finite in {self._wider.dtype} either")
        return grads

    def _again(self, failure: NonFiniteError) -> Tensor:
        """Run the forward in the wider dtype; return images in the dtype of the first attempt."""
        if self._job.outside.leaves:
            raise failure
        start, text, shifts = self._tensors
        what = f"{str(failure).partition(';')[0]}: the call runs again in {self._wider.dtype}"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
        self._runner, self._retried = Eager(self._wider.job(self._job)), True
        self._wider.calls += 1
        images = self._runner.forward(start, [*map(self._wider.of, text)], [*map(self._wider.of, shifts)])
        images = images.to(self._wider.decoded)
        if not images.isfinite().all():
            raise NonFiniteError(f"the images are not finite in {self._wider.dtype} either") from failure
        return images
