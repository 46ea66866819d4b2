"""The caption of a picture that nobody has described: written by a captioner, or chosen word by word."""

from collections.abc import Callable, Sequence

from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex.errors_of_denoiser import denoiser_errors
from diffexplain_fast.methods.diffex.eyes import Values
from diffexplain_fast.methods.diffex.jobs import warn_of

_ROUNDS = 2


def source_captions(
    shipped: Shipped, models: LatentModels, wording: Wording, values: Values, pixels: Tensor
) -> list[str]:
    """Return a caption of each picture [B, 3, H, W].

    A captioner writes it. Without one the word of each category is chosen in turn, in two rounds, by a CLIP pair, and
    by the denoiser's own error where the pair is unsure or there is none.

    Args:
        shipped: what looks at pictures.
        models: encoder, denoiser and decoder.
        wording: how captions say words.
        values: words of every category.
        pixels: the pictures.
    """
    if shipped.captioner is not None:
        return [wording.changed(text, {}) for text in shipped.captioner.write(pixels)]
    return [_chosen(shipped, models, wording, values, one[None]) for one in pixels]


def warn_of_disputed(captions: Sequence[str], wording: Wording) -> None:
    """Warn of captions that say of a picture what cannot be true at once, as of two things of one category."""
    said = [
        f"{' and '.join(words)} for picture {i}"
        for i, caption in enumerate(captions, start=1)
        for words in wording.disputed(caption).values()
    ]
    warn_of(said, "captions that say one value of each category", "{}, of which the last word counts")


def _chosen(shipped: Shipped, models: LatentModels, wording: Wording, values: Values, pixels: Tensor) -> str:
    text, pair = wording.changed("", {}), shipped.similarity
    unsure = [name for name in values if pair is None or name in shipped.unsure]

    def best(name: str, score: Callable[[list[str]], Tensor]) -> str:
        """Return the caption with the word of a category that scores best; or as it is, if that does or none fits."""
        others = [wording.changed(text, {name: word}) for word in values[name]]
        texts = list(dict.fromkeys([text, *filter(models.pipeline.fits, others)]))
        return texts[int(score(texts).argmax())]

    if pair is not None:
        feature = pair.pictures(pixels)[0]
        for _ in range(_ROUNDS):
            for name in values:
                text = best(name, lambda texts: pair.texts(texts) @ feature)
    clean = models.encode(pixels)
    for name in unsure:
        text = best(name, lambda texts: -denoiser_errors(models, clean, texts))
    return text
