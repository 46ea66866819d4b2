"""What a caller of an editor gives: texts, masks, numbers and latents of the wrong kind are refused by name."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.engine.ancestral import Ancestral
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.conditioning import Conditioning


def check_texts(argument: str, texts: object, none_too: bool = False) -> None:
    """Refuse anything but a sequence of at least one text; one text alone is a sequence of letters.

    Args:
        argument: of the caller.
        texts: what was given.
        none_too: whether None may stand for a text.
    """
    wanted = "a sequence of texts" + (", or None for no caption" if none_too else "")
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise wrong_type(argument, wanted, texts)
    for text in texts:
        if not isinstance(text, str) and not (none_too and text is None):
            raise wrong_type(argument, wanted, text)
    if not texts:
        raise wrong_value(argument, "at least one text", "none")


def check_caption(caption: object) -> None:
    """Refuse a source caption that is neither text nor None."""
    if caption is not None and not isinstance(caption, str):
        raise wrong_type("caption", "text, or None for no caption", caption)


def check_latents(argument: str, latents: object, channels: int | None = None, one: bool = False) -> Tensor:
    """Return latents [B, c, h, w] of at least one picture, after a check of all but their numbers.

    Args:
        argument: of the caller.
        latents: what was given.
        channels: c; None for any number of them.
        one: whether B is 1.
    """
    count, depth = 1 if one else "B", "c" if channels is None else channels
    wanted = f"the latent of one picture [1, {depth}, h, w]" if one else f"latents [B, {depth}, h, w]"
    if not isinstance(latents, Tensor):
        raise wrong_type(argument, wanted, latents)
    fits = latents.ndim == 4 and latents.numel() > 0 and count in ("B", len(latents))
    if not fits or latents.shape[1] != (channels or latents.shape[1]) or not latents.is_floating_point():
        raise wrong_value(argument, f"{wanted}, floating point", f"{list(latents.shape)} in {latents.dtype}")
    return latents


def check_clean(clean: object, channels: int | None = None) -> None:
    """Refuse anything but the finite latent of one picture [1, c, h, w], c any number if ``channels`` is None."""
    if not bool(check_latents("clean", clean, channels, one=True).isfinite().all()):
        raise wrong_value("clean", "finite numbers", "NaN or infinite ones")


def check_pixels(pixels: object) -> None:
    """Refuse anything but finite pixels [B, 3, H, W] of at least one picture."""
    wanted = "pixels [B, 3, H, W] in [0, 1] of at least one picture"
    if not isinstance(pixels, Tensor):
        raise wrong_type("pixels", wanted, pixels)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0 or not pixels.is_floating_point():
        raise wrong_value("pixels", f"{wanted}, floating point", f"{list(pixels.shape)} in {pixels.dtype}")
    if not bool(pixels.isfinite().all()):
        raise wrong_value("pixels", "finite numbers", "NaN or infinite ones")


def check_table(table: object) -> None:
    """Refuse anything but a table of steps."""
    if not isinstance(table, Ancestral):
        raise wrong_type("table", "what ancestral_steps(scheduler, steps) returns", table)


def checked_guidance(guidance: object, steps: int) -> tuple[float, ...]:
    """Return scales of classifier-free guidance, one for each of so many steps, or () for none.

    Args:
        guidance: a sequence of them, or one number for every step.
        steps: how many steps there are.

    Raises:
        TypeError: neither a number nor a sequence of numbers.
        ValueError: another number of scales than of steps, or one that is not finite.
    """
    wanted = f"a finite number, or one for each of {steps} steps, or () for none"
    several = isinstance(guidance, Sequence) and not isinstance(guidance, str | bytes)
    given = guidance if isinstance(guidance, Sequence) and several else [guidance]
    scales = list[float]()
    for scale in given:
        if isinstance(scale, bool) or not isinstance(scale, int | float | np.number):
            raise wrong_type("guidance", wanted, scale)
        if not math.isfinite(scale):
            raise wrong_value("guidance", wanted, scale)
        scales.append(float(scale))
    if several and len(scales) not in (0, steps):
        raise wrong_value("guidance", wanted, f"{len(scales)} numbers")
    return tuple(scales if several else scales * steps)


def check_number(argument: str, value: object, least: float = -math.inf) -> None:
    """Refuse anything but a finite number of at least another one."""
    wanted = "a finite number" + ("" if least == -math.inf else f" of at least {least:g}")
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise wrong_type(argument, wanted, value)
    if not least <= value < math.inf:
        raise wrong_value(argument, wanted, value)


def rows_of(argument: str, text: object) -> int:
    """Return for how many pictures, at least one, a text is, what ``LatentModels.text`` returns."""
    if not isinstance(text, Conditioning):
        raise wrong_type(argument, "what models.text([...]) returns", text)
    if not len(text.prompt_embeds):
        raise wrong_value(argument, "at least one text", "none")
    return len(text.prompt_embeds)


def checked_masks(masks: object, targets: int, latents: Tensor) -> Tensor:
    """Return masks as numbers, after a check.

    Args:
        masks: [B, 1, h, w] or one for all [1, 1, h, w], bool or from 0 to 1.
        targets: how many captions there are; one counts for all masks.
        latents: [..., h, w], in whose size masks are.

    Raises:
        TypeError: no tensor.
        ValueError: another shape or number, or values out of range.
    """
    size = list(latents.shape[-2:])
    if not isinstance(masks, Tensor):
        raise wrong_type("masks", f"a tensor [{targets}, 1, {size[0]}, {size[1]}]", masks)
    fits = masks.ndim == 4 and list(masks.shape[1:]) == [1, *size]
    if not fits or not len(masks) or (len(masks) != targets and 1 not in (len(masks), targets)):
        wanted = f"[{targets}, 1, {size[0]}, {size[1]}], a mask of latents for each target, or one for all"
        raise wrong_value("masks", wanted, list(masks.shape))
    found = masks if masks.is_floating_point() else masks.to(torch.float32)
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise wrong_value("masks", "numbers from 0 to 1", f"{float(found.min()):.3g} to {float(found.max()):.3g}")
    return found
