"""Run identity: names and hashes must match exactly, the classifier's answers up to rounding."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import seeded_generator, uniform
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.module_settings import settings_sha256
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.rewritten import rewritten_sha256
from diffexplain_fast.models.xl import latent_scale
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.runs.checkpoint import Answers
from diffexplain_fast.targets import Target
from diffexplain_fast.targets.outputs import SOFTMAX

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_PICTURES, _COARSE, _MIXES = 2, 4, 8
_ROUNDING, _ROUNDING_HALF = 2e-3, 5e-2
"""Largest change by another machine or TF32, as a share of the largest answer; the second number is for 16-bit
logits."""


class Asks(Protocol):
    """A classifier, a bound target, and the pipeline that draws for them."""

    @property
    def pipeline(self) -> Pipeline: ...
    @property
    def classifier(self) -> Classifier: ...
    @property
    def target(self) -> Target: ...


def identity_of(problem: Problem) -> JsonObject:
    """Return the names, settings and fingerprints of an explanation as JSON values."""
    return {
        "target": problem.target.describe(),
        "seed": problem.seed,
        "classifier_fingerprint": problem.classifier.fingerprint(),
        "sampler": problem.sampler.identity(),
        "spacing": [round(float(step.timestep), 2) for step in problem.sampler.schedule.steps],
        **pipeline_identity(
            problem.pipeline, problem.sampler.guidance_scale, noise=noise_of(problem.pipeline.scheduler)
        ),
        **_output_of(problem),
    }


def _output_of(problem: Problem) -> JsonObject:
    """Return the kind of output unless it is the only one that release 0.1 had."""
    output = problem.classifier.output or SOFTMAX
    return {} if output == SOFTMAX else {"output": output}


_SETTINGS = "{}_settings"
NEWER = (
    *("latents", "noise", "vae", "tokenizers", "spacing"),
    *(_SETTINGS.format(name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")),
)
"""Keys of ``identity_of`` that checkpoints of explanations of release 0.1 lack."""
_NOISE = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr", "prediction_type")
"""Options of a scheduler that decide its noise levels, and what the denoiser predicts of them."""
_LATENTS = ("latents_mean", "latents_std")
"""Options of a VAE beside its factor by which latents become what it decodes, where the pipeline reads them."""


def pipeline_identity(pipeline: Pipeline, guidance_scale: float, **noise: Json) -> JsonObject:
    """Return what a pipeline is to everything that is kept of its pictures: a pool, and every kind of checkpoint.

    Args:
        pipeline: adapter from models.pipeline.
        guidance_scale: of the sampler; 1.0 runs no unconditional row.
        noise: what decides the noise levels: ``noise=noise_of(scheduler)``, which is the same on every machine, or a
            hash of the numbers themselves where every bit counts.
    """
    return {
        "pipeline_fingerprint": pipeline.fingerprint(),
        **{_SETTINGS.format(name): settings_sha256(module) for name, module in pipeline.modules.items()},
        "latents": list(pipeline.latent_shape),
        "vae": _scale_of(pipeline),
        "tokenizers": _tokens_of(pipeline),
        **noise,
        **conditions_of(pipeline, guidance_scale),
    }


def _scale_of(pipeline: Pipeline) -> JsonObject:
    """Return the options of the VAE that decide the scale of latents, as JSON values; see ``latent_scale``.

    The shift is what earlier releases applied: none where no pipeline reads one, so that pictures which they drew with
    one are told apart, and all others are kept.
    """
    config = pipeline.vae.config
    acts = isinstance(latent_scale(pipeline.unet, pipeline.vae).shift, torch.Tensor)
    found: JsonObject = {"scaling_factor": float(config.scaling_factor), "shift_factor": 0.0}
    return found | {name: _as_json(config[name]) for name in _LATENTS if acts}


def _tokens_of(pipeline: Pipeline) -> list[str]:
    """Return a sha256 for each tokenizer, of what makes a text numbers: tokens with their ids, and how a text ends."""
    found = []
    for each in pipeline.tokenizers:
        ends = each.bos_token_id, each.eos_token_id, each.pad_token_id, each.model_max_length
        found.append(hashlib.sha256(json.dumps([sorted(each.get_vocab().items()), ends]).encode()).hexdigest())
    return found


def noise_of(scheduler: "SchedulerMixin") -> JsonObject:
    """Return the options of a scheduler that decide its noise levels, as JSON values."""
    options = {"num_train_timesteps": scheduler.config.num_train_timesteps}
    found = {name: scheduler.config.get(name) for name in _NOISE}
    return options | {name: _as_json(value) for name, value in found.items() if value is not None}


def conditions_of(pipeline: Pipeline, guidance_scale: float) -> JsonObject:
    """Return how a pipeline conditions the denoiser, where that is not what runs of release 0.1 did.

    A function of prompts that the user has put in place of the pipeline's ``maybe_convert_prompt`` is told by what it
    makes of words, because its code does not say what it closes over.

    Args:
        pipeline: adapter from models.pipeline.
        guidance_scale: of the sampler; 1.0 runs no unconditional row.
    """
    found = JsonObject()
    rewritten = [rewritten_sha256(pipeline.convert, tokenizer) for tokenizer in pipeline.tokenizers]
    if any(rewritten):
        found["prompts_rewritten"] = rewritten
    if pipeline.call_options:
        found["call_options"] = {key: _as_json(value) for key, value in pipeline.call_options.items()}
    if pipeline.zeros and guidance_scale != 1.0:
        found["unconditional"] = "zeros"
    return found


def _as_json(value: object) -> Json:
    return np.asarray(value).tolist() if isinstance(value, tuple | list | np.ndarray) else value


@torch.no_grad()
def answers_of(problem: Asks) -> Answers:
    """Return the answers of classifier and target to fixed pictures, in one small batch.

    A fingerprint does not cover the variables that a function closes over, the code of a preprocessing, or a plain
    attribute of a module; the answers do. Only a few mixes of the logits are kept, as many for two classes as for
    thousands.
    """
    generator = seeded_generator(0, "probe", 0)
    height, width = problem.pipeline.image_size
    fine, coarse = (uniform(generator, _PICTURES, 3, *size) for size in ((height, width), (_COARSE, _COARSE)))
    pictures = (fine + interpolate(coarse, (height, width), mode="bilinear")) / 2  # with edges as well as areas
    with _same_luck(problem.pipeline.device):
        response = problem.classifier.respond(
            pictures.to(problem.pipeline.device, problem.pipeline.dtype), problem.target.layers
        )
        score = problem.target(response)
    logits = response.logits.double().cpu()
    classes = logits.shape[1]
    mixes = torch.randn(classes, _MIXES, generator=generator, dtype=torch.float64, device="cpu") / math.sqrt(classes)
    values = torch.cat([(logits @ mixes).flatten(), score.flatten().double().cpu()])
    largest = max((abs(value) for value in values.tolist() if math.isfinite(value)), default=0.0)
    half = torch.finfo(response.logits.dtype).bits < 32
    return Answers(values.tolist(), largest * (_ROUNDING_HALF if half else _ROUNDING))


@contextmanager
def _same_luck(device: torch.device) -> Iterator[None]:
    """Seed a classifier that draws random numbers while the context is open, and restore the generators."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(0)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
