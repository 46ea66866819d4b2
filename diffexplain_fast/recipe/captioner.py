"""The captioner: a small GIT, which writes what the grammar has public words for."""

import numpy as np
import torch
from transformers import CLIPModel, CLIPTokenizer, GitConfig, GitForCausalLM

from diffexplain_fast.recipe.clip import PATCH, WIDTH, tokens
from diffexplain_fast.recipe.data import Scenes, as_pixels
from diffexplain_fast.recipe.tokenizer import CONTEXT
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.tinyworld.grammar import full_caption

PLAN = Plan(steps=3500, batch=64, rate=1e-3, decay=1e-2, average=0.995, half=True)
_UNTRAINED = -100
"""Label of a place whose word does not count."""


def build_captioner(tokenizer: CLIPTokenizer) -> GitForCausalLM:
    """Return the untrained captioner."""
    vision = dict(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=64,
        patch_size=PATCH,
    )
    config = GitConfig(
        vision_config=vision,
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GitForCausalLM(config)


def start_from(model: GitForCausalLM, pair: CLIPModel) -> None:
    """Give the captioner the image tower of a CLIP pair to start from."""
    model.git.image_encoder.vision_model.load_state_dict(pair.vision_model.state_dict())


def captioner_loss(model: GitForCausalLM, tokenizer: CLIPTokenizer, scenes: Scenes, batch: int) -> Loss:
    """Return the cross-entropy of the full caption, word by word."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = rng.integers(len(scenes.pixels), size=batch)
        ids = tokens(tokenizer, [full_caption(scenes.attributes(row)) for row in rows])
        return {"pixels": scenes.pixels[torch.from_numpy(rows)], "ids": ids}

    def loss(batch: Batch) -> torch.Tensor:
        ids, pixels = batch["ids"], as_pixels(batch["pixels"]) * 2 - 1
        # The token that ends a caption also fills what follows: only the first one is to be written.
        ended = (ids == tokenizer.eos_token_id).int().cumsum(1) > 1
        return model(input_ids=ids, pixel_values=pixels, labels=ids.masked_fill(ended, _UNTRAINED)).loss

    return Loss(draw, loss)


@torch.no_grad()
def write_captions(model: GitForCausalLM, tokenizer: CLIPTokenizer, images: torch.Tensor) -> list[str]:
    """Return the most probable caption, word by word, of uint8 pictures [B, 3, 64, 64]."""
    found = []
    for part in images.split(100):
        ids = model.generate(
            pixel_values=as_pixels(part, model.device) * 2 - 1,
            input_ids=torch.full((len(part), 1), tokenizer.bos_token_id, device=model.device),
            attention_mask=torch.ones((len(part), 1), dtype=torch.long, device=model.device),
            max_length=CONTEXT,
            do_sample=False,
        )
        found += [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return found
