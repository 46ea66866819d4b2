"""What explanations found, for the trial that confirms it: explanations that are there, or new ones of every target."""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.environment import versions
from diffexplain_fast.errors import AnotherRunError, unknown_name, wrong_type, wrong_value
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.discovery.question import Found
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.explanation import Explanation, first_words
from diffexplain_fast.results.told_apart import is_of_others

Search = Callable[[object, str], Explanation]
"""From a target and its name to its explanation."""


class Searches(Protocol):
    """Explains a target; see ``Explainer.explain``."""

    def __call__(self, target: object, *, checkpoint: Path) -> Explanation: ...


def check_explain(explain: object) -> None:
    """Refuse what is neither True, False nor explanations.

    Raises:
        TypeError: something else.
    """
    if isinstance(explain, bool):
        return
    if not isinstance(explain, Mapping) or not all(isinstance(one, Explanation) for one in explain.values()):
        raise wrong_type("explain", "True, False, or a dict from targets to their explanations", explain)


def tokens_of(explain: object) -> int:
    """Return how many tokens a search will find for every target; 0 where nothing is searched.

    Args:
        explain: see ``Explainer.audit``.
    """
    return Options().n_tokens if explain is True else 0


def found_by(explain: object, readout: Readout, pipeline: Pipeline) -> dict[int, Found]:
    """Return the tokens that given explanations found, by the place of the target; none without any explanation.

    Those of another classifier are tried too: only how optimistic its search was says nothing of this one.

    Args:
        explain: see ``Explainer.audit``.
        readout: the classifier and its targets.
        pipeline: draws the pictures.

    Raises:
        ValueError: an explanation of an unknown target, or of another pipeline, also by a prefix that this one cannot
            spell.
    """
    if not isinstance(explain, Mapping) or not explain:
        return {}
    found, classifier = {}, readout.classifier
    own = classifier.fingerprint()  # once: it reads all weights
    for name, explanation in explain.items():
        if name not in readout.names:
            raise unknown_name("explain", str(name), readout.names)
        if explanation.prompt_embeds.shape[-1] != pipeline.embedding_dim:
            tokens = f"tokens of {pipeline.name}, {pipeline.embedding_dim} numbers each"
            raise wrong_value(f"explain, {name}", tokens, f"{explanation.prompt_embeds.shape[-1]} numbers")
        if not pipeline.knows(prefix := prefix_of(explanation)):
            wanted = f"a prefix whose every character the tokenizer of {pipeline.name} knows"
            raise wrong_value(f"explain, {name}", wanted, repr(prefix))
        given = _found(explanation, pipeline)
        if is_of_others(explanation.settings, classifier.name, own):
            given = given._replace(optimism=None)
        found[readout.names.index(name)] = given
    return found


def searched(readout: Readout, pipeline: Pipeline, search: Search) -> dict[int, Found]:
    """Explain every target, and return the tokens that were found, by the place of the target.

    Args:
        readout: the classifier and its targets.
        pipeline: draws the pictures.
        search: explains a target.
    """
    targets = [readout.others.get(place, index) for place, index in enumerate(readout.classes)]
    return {place: _found(search(target, readout.names[place]), pipeline) for place, target in enumerate(targets)}


def kept_in(folder: Path, classifier: Classifier, sampler: DifferentiableSampler, search: Searches) -> Search:
    """Return a search that an interrupted audit goes on with, from checkpoints in the folder of the pool.

    A fingerprint does not tell functions of the same name apart, which answer differently: each has a folder of its
    own.

    Args:
        folder: of the pool.
        classifier: is explained.
        sampler: draws the pictures of the search.
        search: explains a target, with checkpoints in a folder.
    """
    run = f"{classifier.fingerprint()} {sorted(sampler.identity().items(), key=str)} {versions()['diffexplain_fast']}"

    def explained(target: object, name: str) -> Explanation:
        key = hashlib.sha256(f"{run} {name}".encode()).hexdigest()[:16]
        for number in itertools.count():
            with suppress(AnotherRunError):
                return search(target, checkpoint=folder / "searches" / (f"{key}-{number}" if number else key))
        raise AssertionError

    return explained


def prefix_of(explanation: Explanation) -> str:
    """Return the real words before the soft tokens of an explanation, "" for none."""
    options = explanation.settings.get("options")
    return str(options.get("prefix", "")) if isinstance(options, Mapping) else ""


def _found(explanation: Explanation, pipeline: Pipeline) -> Found:
    scores = explanation.activation
    optimism = None
    if "train" in scores and "held_out" in scores:
        optimism = scores["train"].mean_target - scores["held_out"].mean_target
    prefix, soft = prefix_of(explanation), explanation.prompt_embeds.to(pipeline.device, pipeline.dtype)
    whole = torch.cat([pipeline.token_embeddings(prefix).detach(), soft]) if prefix else soft
    return Found(whole, [*prefix.split(), *first_words(explanation)], optimism)
