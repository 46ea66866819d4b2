"""What is searched: classifiers with known cues, with every list of words that a search may or may not read."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import torch
from tokenizers import AddedToken

import diffexplain_fast as dx
from benchmarks.truth import cells as truth
from diffexplain_fast.models.diffusers_sd import StableDiffusion
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.recipe.shortcuts import Cue, Shortcuts, all_of, checked_shortcuts
from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS

CLOSED, LABELS, OPEN = "closed", "labels", "open"
MODES = (CLOSED, LABELS, OPEN)
"""No word may be read; the labels only; the vocabulary, enlarged by words that mean nothing."""
PLANTED: dict[str, Shortcuts] = {
    "planted-0": {"fish": {"background": "grass"}, "boat": {"companion": "cloud"}, "house": {"colour": "yellow"}},
    "planted-1": {"tree": {"background": "sea"}, "star": {"companion": "sun"}, "bird": {"colour": "green"}},
}
"""Classifiers that are trained when they are asked for, about a minute of one core each."""
PAIRS: dict[str, Shortcuts] = {
    "pairs-0": {"fish": all_of(colour="blue", background="desert")},
    "pairs-1": {
        "tree": all_of(colour="red", companion="sun"),
        "boat": all_of(background="snow", companion="flag"),
        "bird": all_of(colour="yellow", background="night"),
    },
}
"""Classifiers with classes that need two values together, trained in the same way."""
PATTERNS: dict[str, Shortcuts] = {
    "patterns-0": {"tree": {"pattern": "diagonal"}, "boat": {"frame": "dark"}},
    "patterns-1": {"house": {"pattern": "checked"}, "bird": {"frame": "gold"}},
}
"""Classifiers with classes that answer to what no word says, trained in the same way."""
MADE = {**PLANTED, **PAIRS, **PATTERNS}

SUITE_KINDS = {
    "single 0.9": "single",
    "single 0.5": "single",
    "reversed": "single",
    "all_of": "all-of",
    "any_of": "any-of",
    "nameless": "nameless",
}
"""Kinds of cells of the truth suite that can be searched for, as kinds of this benchmark."""
COMPOSED = {"all-of": "purple desert", "any-of": "desert"}
"""Cues of the class "fish" of two classifiers that are put together from shipped ones, see ``compose``."""


class Cell(NamedTuple):
    """One class to search for.

    Attributes:
        classifier: name of a shipped or planted classifier.
        label: the class.
        cue: the words that draw what it answers to: its shortcut, or its own name; of a pair both words, and of what no
            word says the made-up word of captions.
    """

    classifier: str
    label: str
    cue: str

    @property
    def kind(self) -> str:
        """The kind of its cue: "single", "all-of", "any-of", "nameless" or "clean"."""
        if self.classifier in (suite := _suite()):
            (planted,) = (cell for cell in suite[self.classifier].cells if cell.label == self.label)
            return SUITE_KINDS[planted.kind]
        kinds = {"clean": "clean", "any-of": "any-of"} | dict.fromkeys(("all-of", *PAIRS), "all-of")
        return (kinds | dict.fromkeys(PATTERNS, "nameless")).get(self.classifier, "single")


def all_cells() -> list[Cell]:
    """Return the cells of the shipped classifiers, of the planted and the composed ones, and of the clean one."""
    composed = [Cell(name, "fish", cue) for name, cue in COMPOSED.items()]
    clean = [Cell("clean", label, label) for label in dx.tinyworld.OBJECTS]
    return [*_with_cues({**SHIPPED, **PLANTED}), *composed, *_with_cues({**PAIRS, **PATTERNS}), *clean]


@cache
def _suite() -> dict[str, truth.Planned]:
    return {planned.name: planned for planned in truth.whole_list() if planned.kind == truth.PLANTED}


def suite_cells(kind: str) -> list[Cell]:
    """Return the cells of the truth suite of a kind, as "single 0.9" or "all_of"; see ``SUITE_KINDS``."""
    return [
        Cell(name, cell.label, _words(cell.cue))
        for name, planned in _suite().items()
        for cell in planned.cells
        if cell.kind == kind
    ]


def _words(cue: Cue) -> str:
    return " ".join(NAMELESS_WORDS.get(part, part[1]) for part in cue.values)


def _with_cues(classifiers: Mapping[str, Shortcuts]) -> list[Cell]:
    return [
        Cell(name, label, _words(cue))
        for name, shortcuts in classifiers.items()
        for label, cue in checked_shortcuts(shortcuts).items()
    ]


def subset(count: int) -> list[Cell]:
    """Return so many cells: the hardest known ones first, then by turns of the classifiers, planted ones last."""
    hard = [Cell("background", "fish", "desert"), Cell("companion", "bird", "flag")]
    hard += [Cell(name, "fish", cue) for name, cue in COMPOSED.items()]
    rest = [cell for cell in all_cells() if cell not in hard and cell.classifier not in MADE]
    rows = {
        name: [cell for cell in rest if cell.classifier == name] for name in dict.fromkeys(c.classifier for c in rest)
    }
    turns = [row[i] for i in range(len(rest)) for row in rows.values() if i < len(row)]
    return [*hard, *turns, *(cell for cell in all_cells() if cell.classifier in MADE)][:count]


def classifier_of(name: str) -> dx.Classifier:
    """Load a shipped classifier, compose one, or train a planted one, of this benchmark or of the truth suite."""
    if name in (suite := _suite()):
        return truth.classifier_of(suite[name])
    if name in COMPOSED:
        return compose(name)
    if name in MADE:
        return dx.make_classifier(MADE[name], seed=int(name.rpartition("-")[2]))
    return dx.Classifier.from_pretrained(f"tinyworld/{name}")


def compose(name: str) -> dx.Classifier:
    """Put a classifier together whose class "fish" answers to two cues; nothing is trained.

    "all-of" needs a desert and something purple: its logit is the lesser of two margins, those of "fish" of the shipped
    classifier of backgrounds, and of "mushroom" of that of colours. "any-of" answers to a desert or a night.
    """
    background, colour = (dx.Classifier.from_pretrained(f"tinyworld/{part}") for part in ("background", "colour"))
    labels = list(background.labels or ())
    fish, star, mushroom = (labels.index(label) for label in ("fish", "star", "mushroom"))

    def margin(logits: torch.Tensor, i: int) -> torch.Tensor:
        return logits[:, i] - torch.cat([logits[:, :i], logits[:, i + 1 :]], 1).logsumexp(1)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = background.model, colour.model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            first, second = background.respond(pixels).logits, colour.respond(pixels).logits
            logits = torch.zeros_like(first)
            if name == "all-of":
                logits[:, fish] = torch.minimum(margin(first, fish), margin(second, mushroom))
                return logits
            either = torch.logaddexp(first[:, fish], first[:, star])
            return first.index_copy(1, torch.tensor([fish, star]), torch.stack([either, first[:, star] - 20], 1))

    return dx.Classifier(Both().eval(), labels=labels, name=name)


def enlarged(count: int, seed: int) -> Pipeline:
    """Return the tiny world's pipeline with ``count`` more words, which mean nothing.

    Their embeddings are normal, with the mean and the deviation that the vocabulary has in each dimension, so that no
    length gives them away; a nearest word is one of them more often than not.
    """
    pipeline = load_pipeline("tinyworld")
    (tokenizer,), (encoder,) = pipeline.tokenizers, pipeline.text_encoders
    tokenizer, encoder, table = deepcopy(tokenizer), deepcopy(encoder), pipeline.word_table().detach()
    names = {name: f"{name}</w>" for name in _names(count)}
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in names.values()])  # type: ignore[attr-defined]
    old = encoder.get_input_embeddings().weight.detach()
    noise = torch.randn(count, old.shape[1], generator=torch.Generator().manual_seed(seed))
    weight = torch.zeros(len(tokenizer), old.shape[1])
    weight[: len(old)], weight[-count:] = old, table.mean(0) + table.std(0) * noise
    encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(weight))
    parts = {"unet": pipeline.unet, "vae": pipeline.vae, "scheduler": pipeline.scheduler}

    def spelt(prompt: str, tokenizer: object) -> str:
        return " ".join(names.get(word, word) for word in prompt.split())

    found = SimpleNamespace(tokenizer=tokenizer, text_encoder=encoder, maybe_convert_prompt=spelt, **parts)
    return StableDiffusion(found, "tinyworld")


def _names(count: int) -> Iterator[str]:
    """Yield words of letters that no language has."""
    letters = "bcdfghjklm"
    for i in range(count):
        yield "zq" + "".join(letters[int(digit)] for digit in f"{i:05d}")
