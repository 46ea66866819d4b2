"""One optimisation iteration of an explanation, whose parts torch's profiler can tell apart."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.measuring.profile.events import MARK, WHOLE
from diffexplain_fast.methods.diffexplainer.loss import loss_of
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.targets import ClassProbability, whole_number

TEXT, SAMPLER, DECODER, CLASSIFIER, BACKWARD = "text encoder", "sampler", "decoder", "classifier", ", backward"


class _Marked(Problem):
    """A problem that says which of its parts begins, forward and backward."""

    def encode_soft(self, soft: Tensor) -> Conditioning:
        _mark(TEXT)
        conditioning = super().encode_soft(soft)
        _mark_gradient(conditioning.prompt_embeds, TEXT + BACKWARD)
        return conditioning

    def images(self, conditioning: Conditioning, stage: str, indices: Sequence[int]) -> Tensor:
        _mark(SAMPLER)
        pixels = super().images(conditioning, stage, indices)
        _mark_gradient(pixels, (SAMPLER if self.sampler.backend == "fast" else DECODER) + BACKWARD)
        _mark(CLASSIFIER)
        return pixels


class Iteration:
    """Soft prompt, text encoder, sampler, classifier, loss and gradient, as an explanation runs them.

    Args:
        pipeline: as in ``Explainer``; its dtype is that of everything which is loaded here.
        classifier: as in ``Explainer``; its first class is the target.
        batch: images, at least 1.
        device: where to load models that are named.
        graphs: let the fast engine replay CUDA graphs; the work inside a replay has no steps and no owners.
        **sampling: options of ``DifferentiableSampler``; by default 8 steps, guidance 3 and the fast engine.
    """

    def __init__(
        self,
        pipeline: object = "tinyworld",
        classifier: Classifier | str | Path = "tinyworld/background",
        *,
        batch: int = 2,
        device: torch.device | str | None = None,
        graphs: bool = False,
        **sampling: Unpack[SamplerOptions],
    ) -> None:
        if whole_number("batch", batch) < 1:
            raise wrong_value("batch", "at least 1 image", batch)
        models = load_pipeline(pipeline, device=device)
        if not isinstance(classifier, Classifier):
            classifier = Classifier.from_pretrained(classifier, device=device, dtype=models.dtype)
        usual = SamplerOptions(num_inference_steps=8, guidance_scale=3.0, backend="fast")
        options = usual | sampling | SamplerOptions(cuda_graphs="auto" if graphs else False)
        sampler = DifferentiableSampler.from_pipe(models, **options)
        self.problem: Problem = _Marked(models, sampler, classifier, ClassProbability(0).bind(classifier), "", 0)
        self.batch, self.graphs = batch, graphs
        self.on_gpu = models.device.type == "cuda"
        self._soft = models.word_table()[: Options.n_tokens].detach() / self.problem.embedding_scale

    def modules(self) -> dict[str, nn.Module]:
        """Return the models by the part they belong to."""
        pipeline, classifier = self.problem.pipeline, self.problem.classifier
        models = {TEXT if i == 0 else f"{TEXT} {i + 1}": part for i, part in enumerate(pipeline.text_encoders)}
        models |= {"denoiser": pipeline.unet, "decoder (its encoder too)": pipeline.vae, CLASSIFIER: classifier.model}
        return {name: part for name, part in models.items() if isinstance(part, nn.Module)}

    def run(self) -> Tensor:
        """Run one iteration, wait for the device, and return the gradient of the soft tokens [n, d]."""
        models = frozen(*self.modules().values(), *self.problem.classifier.modules)
        with models, torch.enable_grad(), self._inner_marks(), record_function(WHOLE):
            soft = self._soft.clone().requires_grad_()
            loss, _ = loss_of(self.problem, Options(images_per_step=self.batch), soft, 0)
            _mark(CLASSIFIER + BACKWARD)
            (gradient,) = torch.autograd.grad(loss, soft)
            if self.on_gpu:
                torch.cuda.synchronize()
        return gradient

    @contextmanager
    def _inner_marks(self) -> Iterator[None]:
        """Mark the steps and the decoder of the reference, which runs the modules; the fast engine names its own."""
        if self.problem.sampler.backend != "reference":
            yield
            return
        last, pipeline = self.problem.sampler.num_inference_steps, self.problem.pipeline
        steps = iter([(f"step {i}", f"step {i - 1}{BACKWARD}") for i in range(1, last + 1)])
        decoder = iter([(DECODER, f"step {last}{BACKWARD}")])
        hooked = (pipeline.unet, steps), (pipeline.vae.decoder, decoder)
        handles = [module.register_forward_pre_hook(_marking(names)) for module, names in hooked]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _mark(name: str) -> None:
    """Say that a part of the iteration begins."""
    with record_function(MARK + name):
        pass


def _mark_gradient(tensor: Tensor, name: str) -> None:
    """Mark the moment at which the gradient of a tensor is known."""
    if tensor.requires_grad:
        tensor.register_hook(lambda gradient: _mark(name))


def _marking(names: Iterator[tuple[str, str]]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that marks the part which begins, and later the part that begins with the input's gradient."""

    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        now, later = next(names)
        _mark(now)
        _mark_gradient(arguments[0], later)

    return hook
