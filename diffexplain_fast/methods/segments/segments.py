"""Presence, pixel share and drop of concepts in explained pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffexplain_fast.editing.editors import inpaint
from diffexplain_fast.editing.inversion import noised
from diffexplain_fast.editing.latents import LatentModels, latent_mask, pasted
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.shipped import Ask, Segment
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.results.segments import SegmentRow
from diffexplain_fast.stats.intervals import mean_interval

PRESENT = 0.02
"""Share of a picture's pixels from which a concept is there."""
_STEPS, _GROW, _GUIDANCE = 8, 1, 3.0
Value = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Explained:
    """Explained pictures of one target.

    Attributes:
        target: description of the target.
        pixels: [N, 3, H, W] in [0, 1].
        usual: pictures of the class name only [M, 3, H, W]; None for none.
        prompt: of ``pixels``.
        value: pixels [B, 3, H, W] to the target's value [B].
    """

    target: str
    pixels: Tensor
    usual: Tensor | None
    prompt: Conditioning
    value: Value


@torch.no_grad()
def segment_rows(
    explained: Explained,
    concepts: Concepts,
    segment: Segment,
    ask: Ask,
    models: LatentModels,
    most: int,
    seed: int,
) -> list[SegmentRow]:
    """Return a row for every concept that a segmenter can be asked for.

    Filling a removed region with a mean colour or a blur would leave a background's colour where it is, so the pipeline
    draws the region anew; and because drawing anew changes more than the concept, the same region drawn anew with the
    picture's own prompt is what it is compared with.

    Args:
        explained: the pictures.
        concepts: what is looked for; free words are asked for as they are.
        segment: finds regions.
        ask: value and group to the text that asks for it, None for a value that is nowhere.
        models: encoder, denoiser and decoder.
        most: pictures at most in which a concept is removed; 0 for none.
        seed: decides all noise.
    """
    rows = []
    for name in concepts.names:
        group, _, value = name.partition(":")
        text = ask(value, group)
        if text is None:
            continue
        masks = segment(explained.pixels, [text] * len(explained.pixels)).bool()
        shares = masks.double().mean((1, 2, 3))
        there = (shares >= PRESENT).nonzero().flatten().tolist()
        usual = None
        if explained.usual is not None:
            found = segment(explained.usual, [text] * len(explained.usual)).double().mean((1, 2, 3))
            usual = float((found >= PRESENT).double().mean())
        drops = _drops(explained, masks, there[:most], models, seed)
        ends = mean_interval(drops) if len(drops) > 1 else None
        rows.append(
            SegmentRow(
                target=explained.target,
                concept=name,
                presence=len(there) / len(shares),
                usual=usual,
                pixels=float(shares[there].mean()) if there else None,
                drop=sum(drops) / len(drops) if drops else None,
                low=None if ends is None else ends[0],
                high=None if ends is None else ends[1],
                removed=len(drops),
            )
        )
    return rows


def _drops(explained: Explained, masks: Tensor, places: Sequence[int], models: LatentModels, seed: int) -> list[float]:
    found = []
    for place in places:
        picture, mask = explained.pixels[[place]].float(), masks[[place]]
        clean = models.encode(picture)
        noisy = noised(ancestral_steps(models.pipeline.scheduler, _STEPS), clean, seed)
        region = latent_mask(mask, clean.shape[-2:], _GROW)
        own = inpaint(models, noisy, explained.prompt, region, _GUIDANCE, seed)
        without = inpaint(models, noisy, models.text([None]), region, 1.0, seed)
        edits = models.decode(torch.cat([own, without])).clamp(0, 1)
        drawn = pasted(picture, edits, mask.expand(2, -1, -1, -1), grow=_GROW)
        with_it, without_it = explained.value(drawn.to(explained.pixels.dtype)).tolist()
        found.append(with_it - without_it)
    return found
