"""The denoiser: a small Stable Diffusion UNet, trained to predict velocity under the text tower of the CLIP pair."""

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from diffexplain_fast.recipe.clip import WIDTH, tokens
from diffexplain_fast.recipe.data import Scenes
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.recipe.vae import CHANNELS
from diffexplain_fast.tinyworld.grammar import varied_caption

PLAN = Plan(steps=16_000, batch=32, rate=1e-3, decay=1e-3, average=0.999, half=True)
_NO_CAPTION_SHARE = 0.1
_SNR_CAP = 5.0
"""Weight of a time step is min(SNR, cap) / SNR of its noise loss (Hang et al. 2023, Min-SNR)."""


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion with velocity prediction, sampled from the noisiest time on.

    Steps that begin earlier take noise for a picture of medium light, and draw grass where night was asked for (Lin et
    al. 2023, arXiv 2305.08891, section 3.3).
    """
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,  # diffusers warns of another; "trailing" does not read it
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )


def build_unet() -> UNet2DConditionModel:
    """Return the untrained denoiser."""
    return UNet2DConditionModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)


def unet_loss(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scenes: Scenes,
    latents: torch.Tensor,
    batch: int,
) -> Loss:
    """Return the weighted velocity error at random times, with captions dropped for guidance."""
    alphas = build_scheduler().alphas_cumprod.to(unet.device)
    weights = (alphas / (1 - alphas)).clamp_max(_SNR_CAP) / (alphas / (1 - alphas) + 1)

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = rng.integers(len(latents), size=batch)
        texts = [varied_caption(scenes.attributes(row), rng) for row in rows]
        texts = ["" if rng.random() < _NO_CAPTION_SHARE else text_ for text_ in texts]
        clean = latents[torch.from_numpy(rows)]
        times = torch.from_numpy(rng.integers(len(alphas), size=batch))
        noise = torch.randn(clean.shape, generator=generator)
        return {"ids": tokens(tokenizer, texts), "clean": clean, "times": times, "noise": noise}

    def loss(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            states = text(batch["ids"]).last_hidden_state
        clean, times, noise = batch["clean"], batch["times"], batch["noise"]
        signal, spread = alphas[times].sqrt().view(-1, 1, 1, 1), (1 - alphas[times]).sqrt().view(-1, 1, 1, 1)
        noisy = (signal * clean + spread * noise).to(memory_format=torch.channels_last)
        velocity = signal * noise - spread * clean
        error = (unet(noisy, times, states).sample.float() - velocity).square().mean((1, 2, 3))
        return (weights[times] * error).sum() / weights[times].sum()

    return Loss(draw, loss)
