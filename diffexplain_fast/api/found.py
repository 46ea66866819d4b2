"""What explanations found, for the trial that confirms it: explanations that are there, or new ones of every target."""

from collections.abc import Callable, Mapping

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.discovery.question import Found
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.explanation import Explanation, first_words

Search = Callable[[object], Explanation]
"""From a target to its explanation."""


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
        explain: see ``found_by``.
    """
    return Options().n_tokens if explain is True else 0


def found_by(explain: object, readout: Readout, pipeline: Pipeline, search: Search) -> dict[int, Found]:
    """Return the tokens that explanations found, by the place of the target.

    Args:
        explain: True to explain every target now, False for none, or target name to its explanation.
        readout: the classifier and its targets.
        pipeline: draws the pictures.
        search: explains a target.

    Raises:
        ValueError: an explanation of an unknown target, or of another pipeline.
    """
    if isinstance(explain, bool):
        wanted = [readout.others.get(place, index) for place, index in enumerate(readout.classes)] if explain else []
        return {place: _found(search(target), pipeline) for place, target in enumerate(wanted)}
    assert isinstance(explain, Mapping)
    found = {}
    for name, explanation in explain.items():
        if name not in readout.names:
            raise unknown_name("explain", str(name), readout.names)
        if explanation.prompt_embeds.shape[-1] != pipeline.embedding_dim:
            tokens = f"tokens of {pipeline.name}, {pipeline.embedding_dim} numbers each"
            raise wrong_value(f"explain, {name}", tokens, f"{explanation.prompt_embeds.shape[-1]} numbers")
        found[readout.names.index(name)] = _found(explanation, pipeline)
    return found


def _found(explanation: Explanation, pipeline: Pipeline) -> Found:
    scores = explanation.activation
    optimism = None
    if "train" in scores and "held_out" in scores:
        optimism = scores["train"].mean_logit - scores["held_out"].mean_logit
    soft = explanation.prompt_embeds.to(pipeline.device, pipeline.dtype)
    return Found(soft, first_words(explanation), optimism)
