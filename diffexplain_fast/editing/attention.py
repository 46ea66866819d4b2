"""Prompt-to-prompt: a caption is replaced while the attention of the source caption stays, for a share of the steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.editing.checks import check_number, check_texts
from diffexplain_fast.editing.inversion import Inversion, steered, stepped
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import wrong_value

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

_OWN = -1
"""In an alignment: a token that the source does not have."""


def mix(
    models: LatentModels, inversion: Inversion, captions: Sequence[str], cross: float = 0.8, own: float = 0.4
) -> Tensor:
    """Replay the residuals with other captions, whose attention is the source's in the first steps.

    Each place of the picture then looks at the words, and at the other places, as it does in the source. A word of the
    target that replaces one of the source takes over its attention; a word that is added keeps its own.

    Args:
        models: encoder, denoiser and decoder, with batches of at least 2 rows.
        inversion: of the picture, with its own caption.
        captions: B captions as they are to be.
        cross: share of the steps, from the noisiest on, with the source's cross-attention, from 0 to 1.
        own: the same for self-attention.

    Returns:
        Latents [B, c, h, w].

    Raises:
        TypeError: captions that are no sequence of texts, or a share that is no number.
        ValueError: an inversion without caption, no caption, or a share out of range.

    Source: Hertz et al. (arXiv 2208.01626), word swap and prompt refinement, on an edit-friendly inversion.
    """
    if inversion.caption is None:
        raise wrong_value("inversion", "one with a caption", "one without")
    for name, share in (("cross", cross), ("own", own)):
        check_number(name, share)
        if not 0 <= share <= 1:
            raise wrong_value(name, "from 0 to 1", share)
    check_texts("captions", captions)
    room = models.rows - 1  # of each batch, beside the source
    if room < 1:
        raise wrong_value("models", "batches of at least 2 rows", models.rows)
    parts = [captions[start : start + room] for start in range(0, len(captions), room)]
    return torch.cat([_mixed(models, inversion, inversion.caption, part, cross, own) for part in parts])


def aligned(source: Sequence[int], target: Sequence[int], length: int) -> list[int]:
    """Return for each of ``length`` places of a target's context the place of the same token in the source's.

    Tokens that replace as many others take their places; a token that only the target has gets -1. Begin, end and what
    follows the end correspond.

    Args:
        source: token ids without begin and end.
        target: token ids without begin and end.
        length: places of the context, at least 2 more than either has tokens.
    """
    found = [_OWN] * len(target)
    for kind, a, a_end, b, b_end in SequenceMatcher(None, source, target, autojunk=False).get_opcodes():
        if kind == "equal" or (kind == "replace" and a_end - a == b_end - b):
            found[b:b_end] = range(a + 1, a_end + 1)
    after = range(len(source) + 1, len(source) + 1 + length - len(found) - 1)
    return [0, *found, *(min(place, length - 1) for place in after)]


class _Mixing:
    """Attention of diffusers in which all rows of a batch but the first take attention from the first."""

    def __init__(self, alignments: list[list[int]]) -> None:
        self.places = torch.tensor(alignments)  # [B - 1, L]
        self.crossed = self.owned = False

    def __call__(
        self,
        attn: "Attention",
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """Return what an attention layer of a transformer block gives."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        given = (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        query, key, value = (attn.head_to_batch_dim(part) for part in given)
        scores = attn.get_attention_scores(query, key, attention_mask).unflatten(0, (len(hidden_states), -1))
        if encoder_hidden_states is None:
            scores = torch.cat([scores[:1], scores[:1].expand_as(scores[1:])]) if self.owned else scores
        elif self.crossed:
            scores = torch.cat([scores[:1], self._crossed(scores)])
        found = attn.batch_to_head_dim(torch.bmm(scores.flatten(0, 1), value))
        result: Tensor = attn.to_out[1](attn.to_out[0](found)) / attn.rescale_output_factor
        return result

    def _crossed(self, scores: Tensor) -> Tensor:
        """Return attention [B - 1, heads, places, tokens] of the targets with that of the source where it has it."""
        missing = len(scores) - 1 - len(self.places)  # rows that fill up the batch are copies of the last one
        places = torch.cat([self.places, self.places[-1:].expand(missing, -1)]).to(scores.device)
        taken = scores[0, :, :, places.clamp_min(0)].permute(2, 0, 1, 3)
        return torch.where((places == _OWN)[:, None, None], scores[1:], taken)


def _mixed(
    models: LatentModels, inversion: Inversion, caption: str, captions: Sequence[str], cross: float, own: float
) -> Tensor:
    text = models.text([caption, *captions])
    tokens = [models.pipeline.token_ids(one) for one in (caption, *captions)]
    mixing = _Mixing([aligned(tokens[0], one, text.prompt_embeds.shape[1]) for one in tokens[1:]])
    count = len(inversion.table.steps)
    sample = inversion.samples[:1].expand(len(captions), -1, -1, -1)
    for i, step in enumerate(inversion.table.steps):
        mixing.crossed, mixing.owned = i < cross * count, i < own * count
        rows, times = torch.cat([inversion.samples[i : i + 1], sample]), [step.timestep] * (len(captions) + 1)
        with _attending(models.pipeline.unet, mixing), models.own_modules():
            output = models.predict(rows, times, text)[1:]
        if (scale := inversion.scale(i)) != 1.0:
            output = steered(models, sample, times[1:], output, scale)
        sample = stepped(inversion, i, sample, output)
    return sample


@contextmanager
def _attending(unet: "UNet2DConditionModel", processor: _Mixing) -> Iterator[None]:
    """Let all attention layers run a processor while the context is open."""
    before = dict(unet.attn_processors)
    try:
        unet.set_attn_processor(processor)
        yield
    finally:
        unet.set_attn_processor(before)
