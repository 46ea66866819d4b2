"""The CLIP pair: its text tower conditions the denoiser, its image tower starts the segmenter and the captioner.

Three things make it see every attribute: small patches; captions that differ from the true one in a single attribute,
among those that a picture is compared with; and read-outs, which ask both embeddings for every attribute.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from diffexplain_fast.recipe.data import COLUMNS, Scenes, as_pixels
from diffexplain_fast.recipe.tokenizer import CONTEXT
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.tinyworld.grammar import (
    NAMELESS_WORDS,
    VOCABULARY,
    read_caption,
    varied_caption,
    visible,
    wrong_caption,
)
from diffexplain_fast.tinyworld.words import values_of

PLAN = Plan(steps=6000, batch=64, rate=1e-3, decay=1e-2, average=0.998)
WIDTH = 128
PATCH = 4
_READ_WEIGHT = 0.25
_STARTS = dict(zip(COLUMNS, np.cumsum([0, *(len(values_of(name)) for name in COLUMNS)]).tolist(), strict=False))
_VALUES = sum(len(values_of(name)) for name in COLUMNS)
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
        patch_size=PATCH,
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
    words = tokenizer([*VOCABULARY, *NAMELESS_WORDS.values()], add_special_tokens=False).input_ids
    used = [*tokenizer.all_special_ids, *(i for ids in words for i in ids)]
    weight = pair.text_model.get_input_embeddings().weight
    silent = torch.ones(len(weight), dtype=torch.bool)
    silent[used] = False
    weight[silent] = 0


class ReadPair(nn.Module):
    """A CLIP pair and the linear read-outs that only its training needs.

    Args:
        pair: the pair, trained in place.
    """

    def __init__(self, pair: CLIPModel) -> None:
        super().__init__()
        self.pair = pair
        self.of_image = nn.Linear(WIDTH, _VALUES)
        self.of_text = nn.Linear(WIDTH, _VALUES)


def seen_values(scenes: Scenes) -> torch.Tensor:
    """Return which values of all ``COLUMNS`` can be seen in each scene, as 0 and 1 [N, values]."""
    seen = torch.zeros(len(scenes.codes), _VALUES)
    for i in range(len(scenes.codes)):
        for name, value in visible(scenes.attributes(i)).items():
            seen[i, _STARTS[name] + values_of(name).index(value)] = 1
    return seen


def said_values(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which values each caption allows, as 0 and 1 [B, values], and how many attributes it says [B]."""
    allowed, said = torch.zeros(len(texts), _VALUES), torch.zeros(len(texts))
    for i, text in enumerate(texts):
        meaning = read_caption(text)
        said[i] = len(meaning)
        for name, values in meaning.items():
            for value in values:
                allowed[i, _STARTS[name] + values_of(name).index(value)] = 1
    return allowed, said


def clip_loss(model: ReadPair, tokenizer: CLIPTokenizer, scenes: Scenes, batch: int) -> Loss:
    """Return the contrastive loss over pictures, their varied captions and as many false ones, with read-outs.

    A caption is right for every picture of which it is true; right answers share the probability of the match.
    """
    everything, pair = seen_values(scenes), model.pair

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = rng.integers(len(scenes.pixels), size=batch)
        texts = [varied_caption(scenes.attributes(row), rng) for row in rows]
        texts += [wrong_caption(texts[i], scenes.attributes(row), rng) or texts[i] for i, row in enumerate(rows)]
        allowed, said = said_values(texts)
        chosen = torch.from_numpy(rows)
        drawn = {"pixels": scenes.pixels[chosen], "seen": everything[chosen], "allowed": allowed, "said": said}
        return drawn | {"ids": tokens(tokenizer, texts)}

    def loss(batch: Batch) -> torch.Tensor:
        seen, allowed = batch["seen"], batch["allowed"]
        out = pair(input_ids=batch["ids"], pixel_values=as_pixels(batch["pixels"]) * 2 - 1)
        right = (seen @ allowed.T == batch["said"]).float()
        of_image = F.cross_entropy(out.logits_per_image, right / right.sum(1, keepdim=True))
        # A caption that is true of no picture has no right answer: its row of zeros adds nothing.
        answers = (right / right.sum(0).clamp_min(1)).T
        of_text = F.cross_entropy(out.logits_per_text, answers, reduction="sum") / answers.sum().clamp_min(1)
        read = F.binary_cross_entropy_with_logits(model.of_text(out.text_embeds), allowed)
        read = read + _read_image(model.of_image(out.image_embeds), seen)
        return 0.5 * (of_image + of_text) + _READ_WEIGHT * read

    return Loss(draw, loss)


def _read_image(logits: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every attribute over the pictures in which it can be seen."""
    total = logits.new_zeros(())
    for name, start in _STARTS.items():
        part = slice(start, start + len(values_of(name)))
        total = total - (logits[:, part].log_softmax(1) * seen[:, part]).sum() / seen[:, part].sum().clamp_min(1)
    return total
