"""The CLIP pair: its text tower conditions the denoiser, its image tower starts the segmenter."""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from diffexplain_fast.recipe.data import Scenes, as_pixels
from diffexplain_fast.recipe.tokenizer import CONTEXT
from diffexplain_fast.recipe.training import Loss, Plan
from diffexplain_fast.tinyworld.words import VOCABULARY, varied_caption

PLAN = Plan(steps=1600, batch=96, rate=1e-3, decay=1e-2, average=0.995)
WIDTH = 128
_PATCH = 8
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return the untrained pair."""
    text = dict(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = dict(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=64,
        patch_size=_PATCH,
        projection_dim=WIDTH,
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def build_image_processor() -> CLIPImageProcessor:
    """Return the preprocessing that the image tower was trained with."""
    return CLIPImageProcessor(
        do_resize=True,
        size={"height": 64, "width": 64},
        do_center_crop=False,
        image_mean=list(MEAN),
        image_std=list(STD),
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Return padded token ids [B, 20]."""
    encoded = tokenizer(texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    return encoded.input_ids


@torch.no_grad()
def silence_unused_tokens(pair: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Set the embeddings of tokens that no caption uses to zero: letters and parts of words, which learnt nothing."""
    words = tokenizer(list(VOCABULARY), add_special_tokens=False).input_ids
    used = [*tokenizer.all_special_ids, *(i for ids in words for i in ids)]
    weight = pair.text_model.get_input_embeddings().weight
    silent = torch.ones(len(weight), dtype=torch.bool)
    silent[used] = False
    weight[silent] = 0


def clip_loss(clip: CLIPModel, tokenizer: CLIPTokenizer, scenes: Scenes, batch: int) -> Loss:
    """Return the symmetric contrastive loss over a batch of pictures and varied captions."""

    def loss(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
        rows = rng.integers(len(scenes.pixels), size=batch)
        texts = [varied_caption(scenes.attributes(row), rng) for row in rows]
        pixels = as_pixels(scenes.pixels[torch.from_numpy(rows)], clip.device) * 2 - 1
        ids = tokens(tokenizer, texts).to(clip.device)
        similarity = clip(input_ids=ids, pixel_values=pixels).logits_per_text
        # Equal captions are equally right: they share the probability of the match.
        same = torch.tensor([[a == b for b in texts] for a in texts], device=ids.device).float()
        target = same / same.sum(1, keepdim=True)
        return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))

    return loss
