"""The start from which a deterministic sampler gives about a picture, found step by step."""

from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.editing.checks import check_caption, check_clean
from diffexplain_fast.editing.latents import LatentModels, check_models
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.conditioning import Conditioning

_CORRECTIONS = 5
"""Fixed-point iterations of each step."""


class Start(NamedTuple):
    """A picture as the start of a sampler.

    Attributes:
        noise: start latents [1, c, h, w].
        text: of the caption.
    """

    noise: Tensor
    text: Conditioning


def invert_ddim(sampler: DifferentiableSampler, models: LatentModels, clean: Tensor, caption: str) -> Start:
    """Return the start from which a sampler without guidance gives about a picture.

    Each step x' = a x + b denoiser(x) of DDIM is solved for x by fixed-point iteration.

    Args:
        sampler: DDIM, with a guidance scale of 1.
        models: encoder, denoiser and decoder.
        clean: the picture's latent [1, c, h, w].
        caption: of the picture as it is.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: another scheduler than DDIM, guidance, or latents of several pictures or that are not finite.

    Source: Pan et al., AIDI (arXiv 2309.04907), eq. 8, without acceleration.
    """
    check_models(models)
    check_clean(clean, models.channels)
    check_caption(caption)
    schedule = sampler.schedule
    if schedule.scheduler != "DDIMScheduler":
        raise wrong_value("pipeline", "one with a DDIM scheduler, whose steps can be inverted", schedule.scheduler)
    if sampler.guidance_scale != 1.0:
        raise wrong_value("sampler", "a guidance scale of 1", sampler.guidance_scale)
    text, sample = models.text([caption]), clean
    for step in reversed(schedule.steps):
        after = sample
        for _ in range(_CORRECTIONS):
            sample = (after - step.output * models.predict(sample, [step.timestep], text)) / step.sample
    return Start(sample / schedule.init_noise_sigma, text)
