"""Prompt-to-prompt: a caption is replaced while the attention of the source caption stays, for a share of the steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.editing.alignment import Taken, aligned, words_of
from diffexplain_fast.editing.checks import check_number, check_texts
from diffexplain_fast.editing.inversion import Inversion, check_inversion, steered, stepped
from diffexplain_fast.editing.latents import LatentModels, check_models, filled
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.watch import foreign

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

_PLAIN = ("AttnProcessor", "AttnProcessor2_0", "FusedAttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor")
"""Processors of diffusers that compute plain attention, for which the one that mixes can stand."""
_FURTHER = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim", "residual_connection")
"""Options of an attention layer that those of transformer blocks do not have."""


def mix(
    models: LatentModels, inversion: Inversion, captions: Sequence[str], cross: float = 0.8, own: float = 0.4
) -> Tensor:
    """Replay the residuals with other captions, whose attention is the source's in the first steps.

    Each place of the picture then looks at the words, and at the other places, as it does in the source. A word of the
    target that replaces one of the source takes over its attention, which its tokens share if they are not as many; a
    word that is added keeps its own, and so do words that replace another number of words.

    Args:
        models: encoder, denoiser and decoder, with batches of at least 2 rows.
        inversion: of the picture, with its own caption.
        captions: B captions as they are to be.
        cross: share of the steps, from the noisiest on, with the source's cross-attention, from 0 to 1.
        own: the same for self-attention.

    Returns:
        Latents [B, c, h, w].

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an inversion without caption, no caption, a share out of range, tokenizers that pad on different
            sides, or a UNet with attention processors of your own or with attention outside of transformer blocks.

    Source: Hertz et al. (arXiv 2208.01626), word swap and prompt refinement, on an edit-friendly inversion.
    """
    check_models(models)
    check_inversion(inversion)
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
    _check_attention(models.pipeline.unet)
    parts = [captions[start : start + room] for start in range(0, len(captions), room)]
    return torch.cat([_mixed(models, inversion, inversion.caption, part, cross, own) for part in parts])


class _Mixing:
    """Attention of diffusers in which all rows of a batch but the first take attention from the first."""

    def __init__(self, alignments: list[list[Taken]]) -> None:
        self.crossed = self.owned = False
        most = max(len(taken.places) for row in alignments for taken in row)
        places, shares = torch.zeros(2, most, len(alignments), len(alignments[0]))
        for b, row in enumerate(alignments):
            for n, taken in enumerate(row):
                for k, place in enumerate(taken.places):
                    places[k, b, n], shares[k, b, n] = place, taken.share
        self._taken = list(zip(places.long(), shares, strict=True))  # pairs [B - 1, L]: one place of each token
        self._own = shares.sum(0) == 0  # [B - 1, L]

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
        missing = len(scores) - 1 - len(self._own)  # rows that fill up the batch are copies of the last one
        taken = torch.zeros_like(scores[1:])
        for places, shares in self._taken:
            at, share = (filled(part, missing).to(scores.device) for part in (places, shares))
            taken += share[:, None, None].to(scores.dtype) * scores[0, :, :, at].permute(2, 0, 1, 3)
        return torch.where(filled(self._own, missing).to(scores.device)[:, None, None], scores[1:], taken)


def _mixed(
    models: LatentModels, inversion: Inversion, caption: str, captions: Sequence[str], cross: float, own: float
) -> Tensor:
    text = models.text([caption, *captions])
    source, *targets = (words_of(models.pipeline, one) for one in (caption, *captions))
    length, left = text.prompt_embeds.shape[1], _pads_left(models)
    mixing = _Mixing([aligned(source, target, length, left) for target in targets])
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


def _pads_left(models: LatentModels) -> bool:
    sides = [getattr(tokenizer, "padding_side", "right") for tokenizer in models.pipeline.tokenizers]
    if len({*sides}) > 1:
        raise wrong_value("models", "tokenizers that pad on the same side", " and ".join(sides))
    return sides[0] == "left"


def _check_attention(unet: "UNet2DConditionModel") -> None:
    """Refuse a UNet with attention for which the one that mixes cannot stand."""
    for name, part in unet.named_modules():
        processor = getattr(part, "processor", None)
        if processor is None:
            continue
        kind, own = type(processor), foreign(type(processor).__call__, ("diffusers", "torch"))
        if kind.__name__ not in _PLAIN or own or not kind.__module__.startswith("diffusers."):
            wanted = "a UNet with diffusers' plain attention processors (unet.set_attn_processor(AttnProcessor2_0()))"
            raise wrong_value("models", wanted, f"{own or kind.__name__} in {name}")
        further = [option for option in _FURTHER if getattr(part, option, None)]
        if further:
            wanted = "a UNet with attention in transformer blocks only"
            raise wrong_value("models", wanted, f"{name} with {', '.join(further)}, as in AttnDownBlock2D")


@contextmanager
def _attending(unet: "UNet2DConditionModel", processor: _Mixing) -> Iterator[None]:
    """Let all attention layers run a processor while the context is open."""
    before = dict(unet.attn_processors)
    try:
        unet.set_attn_processor(processor)
        yield
    finally:
        unet.set_attn_processor(before)
