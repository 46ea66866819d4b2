"""Where an ``Explainer`` gets candidates for the concepts of an audit from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffexplain_fast.api.documented import names_nearest
from diffexplain_fast.api.explains import Explains
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.candidates import Candidates, Embed, See, checked, gather
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.models.undisturbed import undisturbed
from diffexplain_fast.results.explanation import Explanation, first_words
from diffexplain_fast.targets import whole_number
from diffexplain_fast.taxonomy import Taxonomy

_STAGE = "candidates"
_BATCH = 8


class Gathering:
    """The part of an ``Explainer`` that gathers candidates."""

    @names_nearest()
    @torch.inference_mode(False)
    def candidates(
        self: Explains,
        words: Sequence[str] = (),
        taxonomy: Taxonomy | Mapping[str, object] | Sequence[object] | str | Path | None = None,
        found: Sequence[Explanation | str] = (),
        captions: Sequence[str] = (),
        *,
        core: Mapping[str, Sequence[str]] | None = None,
        embed: Embed | None = None,
        see: See | None = None,
        each: int = 12,
    ) -> Candidates:
        """Gather candidates for the concepts of an audit where no grammar is known.

        Args:
            words: of the user.
            taxonomy: a ``Taxonomy``, values of its JSON, or its file; its categories become groups of concepts.
            found: explanations, whose nearest words are taken, or words of their prompts.
            captions: of pictures, such as a captioner writes about explained ones; words that two of them share.
            core: label to concepts that the user declares as the class's own, such as ``{"fish": ["word:fin"]}``.
            embed: texts to embeddings [n, d], by which likeness is measured; None for the pipeline's text encoder.
            see: pixels [B, 3, H, W] and n texts to how well each text fits each picture, float [B, n]; with it every
                candidate is drawn, and one that is not seen in its own pictures is left out. None to draw nothing.
            each: pictures that are drawn of each candidate, at least 4.

        Returns:
            The candidates, each with its source and what became of it, and the concepts that are left.

        Raises:
            TypeError: an argument of the wrong kind.
            UnknownNameError: concepts of a label that the classifier does not have.
            ValueError: nothing is left; too few pictures; numbers of another shape from ``embed`` or ``see``.
        """
        if see is not None and not callable(see):
            raise wrong_type("see", "a function of pixels and texts, or None", see)
        if whole_number("each", each) < 4:
            raise wrong_value("each", "at least 4 pictures", each)
        if isinstance(found, str | Explanation) or not isinstance(found, Sequence):
            raise wrong_type("found", "a list of explanations, or of words", found)
        self._follow()
        texts = [word for one in found for word in _words(one)]
        with undisturbed((), embed):
            gathered = gather(
                self.pipeline, words, taxonomy, texts, captions, self.classifier.labels or (), core, embed
            )
        if see is None:
            return gathered
        with self._frozen(see):
            drawing = Drawing(self.pipeline, self._sampler(None, None), self.seed)

            @torch.no_grad()
            def draw(texts: Sequence[str]) -> Tensor:
                parts = [range(i, min(i + _BATCH, len(texts))) for i in range(0, len(texts), _BATCH)]
                encode = self.pipeline.encode_text
                return torch.cat(
                    [drawing.images(encode(list(texts[part.start : part.stop])), _STAGE, part) for part in parts]
                )

            return checked(gathered, draw, see, each)


def _words(one: object) -> list[str]:
    if isinstance(one, str):
        return [one]
    if isinstance(one, Explanation):
        return first_words(one)
    raise wrong_type("found", "explanations, or words", one)
