"""How well a denoiser knows pictures by their prompt: its error on noisy samples of them, with a gradient to the text.

The lower the error, the likelier are the pictures under the prompt. It takes one row of the denoiser for a picture,
where drawing the picture takes a row in every step.
"""

from torch import Tensor

from diffexplain_fast.editing.texts import sizes_of
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline


def has_error(pipeline: Pipeline) -> bool:
    """Whether ``denoising_error`` is defined: a VAE that encodes, and a scheduler with known levels of noise."""
    kind = getattr(pipeline.scheduler.config, "prediction_type", None)
    levels = hasattr(pipeline.scheduler, "alphas_cumprod") and kind in ("epsilon", "v_prediction")
    return levels and hasattr(pipeline.vae, "encode")


def denoising_error(
    pipeline: Pipeline,
    clean: Tensor,
    levels: Tensor,
    noise: Tensor,
    text: Conditioning,
    calls: SingleCalls | None = None,
) -> Tensor:
    """Return the denoiser's squared error on noisy samples of pictures, differentiable in the text.

    With a the product of alphas at a level, x = sqrt(a) x_0 + sqrt(1 - a) e, and the error is |output - target|^2 with
    the target e ("epsilon") or sqrt(a) e - sqrt(1 - a) x_0 ("v_prediction").

    Args:
        pipeline: adapter from ``models.pipeline`` for which ``has_error`` is true; its modules stay as they are.
        clean: latents x_0 [B, c, h, w] of the pictures.
        levels: levels of noise [B], from 0 (the least) to below 1, as shares of the levels of the training.
        noise: e [B, c, h, w], standard normal.
        text: B rows, or 1 row for all.
        calls: runs the denoiser; None for the pipeline's own module.

    Returns:
        Errors [B] in float32, summed over the latent.

    Source: Ho, Jain, Abbeel (arXiv 2006.11239), eq. 14; Salimans and Ho (arXiv 2202.00512), section 4 for "v".
    """
    alphas: Tensor = pipeline.scheduler.alphas_cumprod
    times = (levels * len(alphas)).long().clamp(0, len(alphas) - 1).to(clean.device)
    a = alphas.to(clean.device)[times].float().view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    is_noise = pipeline.scheduler.config.prediction_type == "epsilon"
    wanted = noise if is_noise else a.sqrt() * noise - (1 - a).sqrt() * clean
    said = denoiser_output(pipeline, noisy, times, text, calls)
    return (said - wanted).square().sum((1, 2, 3))


def denoiser_output(
    pipeline: Pipeline, noisy: Tensor, times: Tensor, text: Conditioning, calls: SingleCalls | None = None
) -> Tensor:
    """Return the denoiser's output [B, c, h, w] in float32 on noisy latents [B, c, h, w] at B steps of its training."""
    count, unet = len(noisy), pipeline.unet
    pooled = None if text.pooled is None else text.pooled.expand(count, -1)
    sizes = None if pooled is None else sizes_of(pipeline, text).expand(count, -1)
    added = None if pooled is None or sizes is None else {"text_embeds": pooled, "time_ids": sizes}
    embeds, dtype = text.prompt_embeds.expand(count, -1, -1), next(unet.parameters()).dtype
    calls = calls or SingleCalls.own(unet, pipeline.vae, "asked for")
    return calls.denoise(noisy.to(dtype), times, embeds.to(dtype), added).float()
