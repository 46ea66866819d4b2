"""Captions as the denoiser reads them: each is encoded once, and again after an edit of a text encoder or tokenizer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.models.conditioning import Conditioning, joined
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.watch import Watch

_MARKS = ("bos_token_id", "eos_token_id", "pad_token_id", "padding_side", "model_max_length")
"""Attributes of a tokenizer that say what stands around the tokens of a text."""
_Key = tuple[object, ...]


class SizedText(Conditioning):
    """Encoded text of B rows with the sizes that Stable Diffusion XL draws each at; unpacks as ``Conditioning`` does.

    Attributes:
        sizes: [B, 6], the negative sizes of the call for rows without a caption; None for other models.
    """

    sizes: Tensor | None = None


def sizes_of(pipeline: Pipeline, text: Conditioning) -> Tensor:
    """Return the sizes [1 or B, 6] of encoded text of Stable Diffusion XL: its own, or else those of captions."""
    sizes = text.sizes if isinstance(text, SizedText) else None
    return pipeline.extras(text, 1)["time_ids"] if sizes is None else sizes


class Texts:
    """Encodes captions.

    Args:
        pipeline: adapter from ``models.pipeline``.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._known: dict[_Key, Conditioning] = {}
        self._watch: Watch | None = None

    def of(self, captions: Sequence[str | None]) -> SizedText:
        """Return a row for each of at least one caption; None is the unconditional row."""
        if self._watch is None or self._watch.touched():
            with torch.inference_mode(False), torch.no_grad():
                self._known, self._watch = {}, Watch(*self._pipeline.text_encoders)
        keys = [self._key(caption) for caption in captions]
        for key, caption in dict(zip(keys, captions, strict=True)).items():
            if key not in self._known:
                known = self._pipeline.unconditional() if caption is None else self._pipeline.encode_text([caption])
                self._known[key] = known
                self._watch.ran()
        found = SizedText(*joined([self._known[key] for key in keys]))
        found.sizes = self._sizes(found, captions)
        return found

    def _key(self, caption: str | None) -> _Key:
        """Return all that decides what the text encoders read of a caption; tokenizers may be edited, as by a new word.

        The first tokenizer is asked through the pipeline, which refuses what no tokenizer can read.
        """
        tokenizers, convert, ids = self._pipeline.tokenizers, self._pipeline.convert, list[tuple[int, ...]]()
        if caption:
            ids.append(tuple(self._pipeline.token_ids(caption)))
            texts = [(other, convert(caption, other) if convert else caption) for other in tokenizers[1:]]
            ids += [tuple(other(text, add_special_tokens=False, verbose=False).input_ids) for other, text in texts]
        marks = [getattr(tokenizer, name, None) for tokenizer in tokenizers for name in _MARKS]
        return (caption is None, *ids, *marks)

    def _sizes(self, text: Conditioning, captions: Sequence[str | None]) -> Tensor | None:
        sizes = self._pipeline.extras(text, 1)
        if "time_ids" not in sizes:
            return None
        own, none = sizes["time_ids"], sizes.get("negative_time_ids", sizes["time_ids"])
        return torch.cat([none if caption is None else own for caption in captions])
