"""Tiny pipelines and a classifier of real components with random weights, created in memory and equal every time."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = ("a", "photo", "of", "the", "tree", "red", "blue", "boat", "fish", "house", "snow", "desert")
"""Words of one token each; every other lower-case word is split into its letters."""
LABELS = ("boat", "fish", "house", "tree")
CONTEXT = 16
"""Longest prompt in tokens, with begin and end."""
LATENT_SIZE, IMAGE_SIZE = 8, 16
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_Made = TypeVar("_Made")


def seeded(make: Callable[[], _Made], seed: int = 0) -> _Made:
    """Return ``make()`` under a fixed seed; the global random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def tiny_tokenizer(words: Sequence[str] = WORDS, context: int = CONTEXT, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """Return a CLIPTokenizer in which each of ``words`` is one token; the other tokens are letters."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["!", ","]
    pieces = [piece for letter in letters for piece in (letter, f"{letter}</w>")]
    merges: list[tuple[str, str]] = []
    for word in words:
        head = word[0]
        for i, letter in enumerate(word[1:], start=2):
            tail = letter if i < len(word) else f"{letter}</w>"
            merges.append((head, tail))
            head += tail
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, "<|startoftext|>", "<|endoftext|>"]))}
    merges = list(dict.fromkeys(merges))
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=context)


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int = 2) -> CLIPTextConfig:
    """Return the configuration of a text encoder over ``tokenizer``."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_unet(cross_attention_dim: int, **options: object) -> UNet2DConditionModel:
    """Return a denoiser of 8 x 8 latents with one plain and one cross-attention level."""
    settings: dict = {
        "sample_size": LATENT_SIZE,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": cross_attention_dim,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**settings, **options})


def tiny_vae() -> AutoencoderKL:
    """Return a decoder from 8 x 8 latents to 16 x 16 pixels, with its encoder."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=IMAGE_SIZE,
    )


def _stable_diffusion(width: int, prediction_type: str, layers: int = 2, **unet: object) -> StableDiffusionPipeline:
    tokenizer = tiny_tokenizer()
    scheduler = DDIMScheduler(**_NOISE, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type)
    return StableDiffusionPipeline(
        vae=tiny_vae().eval(),
        text_encoder=CLIPTextModel(text_config(tokenizer, width, layers)).eval(),
        tokenizer=tokenizer,
        unet=tiny_unet(width, **unet).eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_sd(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """Return a pipeline in the shape of Stable Diffusion 1.x (DDIM, convolutional projections)."""
    return seeded(lambda: _stable_diffusion(16, prediction_type))


def tiny_sd2() -> StableDiffusionPipeline:
    """Return a pipeline in the shape of Stable Diffusion 2.x: v prediction, linear projections, heads per level."""
    unet = {"use_linear_projection": True, "attention_head_dim": (2, 4)}
    return seeded(lambda: _stable_diffusion(24, "v_prediction", layers=3, **unet), seed=1)


def tiny_sdxl() -> StableDiffusionXLPipeline:
    """Return a pipeline in the shape of Stable Diffusion XL: two text encoders, pooled text and sizes as conditions."""

    def make() -> StableDiffusionXLPipeline:
        first, second = tiny_tokenizer(), tiny_tokenizer(pad="!")
        second_config = text_config(second, 24, layers=3)
        second_config.eos_token_id = 2  # as published, so that the position of the highest id is pooled
        unet = tiny_unet(
            16 + 24,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            use_linear_projection=True,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
        return StableDiffusionXLPipeline(
            vae=tiny_vae().eval(),
            text_encoder=CLIPTextModel(text_config(first, 16)).eval(),
            text_encoder_2=CLIPTextModelWithProjection(second_config).eval(),
            tokenizer=first,
            tokenizer_2=second,
            unet=unet.eval(),
            scheduler=EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading"),
            add_watermarker=False,
        )

    return seeded(make, seed=2)


class TinyClassifier(nn.Module):
    """Convolutional classifier of pixels [B, 3, H, W] in [0, 1]; ``layer1`` and ``layer2`` give spatial maps."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12, n)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, n]."""
        features = self.layer2(self.layer1(pixels * 2 - 1))
        return 4 * self.head(features.mean((2, 3)))


def tiny_classifier(n: int = 4) -> TinyClassifier:
    """Return a classifier of ``n`` classes in eval mode; ``LABELS`` names the first four."""
    return seeded(lambda: TinyClassifier(n).eval(), seed=3)
