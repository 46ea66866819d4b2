"""What an explanation says of the steps of the gradient: what they started from, and what came of them."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from diffexplain_fast.results.explanation import Explanation, Iteration


def describe_steps(explanation: Explanation) -> str:
    """Return sentences: what steps of the gradient did, and what the budget left out.

    The steps are those of the attempt that was the best. A step changes nothing where its pictures all convince, or
    where the gradient is zero; these are told apart.

    Args:
        explanation: the explanation.
    """
    found = explanation.settings.get("found", {})
    steps, attempts = _best_attempt(explanation)
    moved, left_out = _moving(steps), found.get("left_out")
    by = str(found.get("by", ""))
    spent = "The budget was spent, so that these were left out or cut short"
    budget = f" {spent}: {', '.join(left_out)}." if left_out else ""
    every = moving_steps(explanation)
    among = f" Of {attempts} attempts, with {_counted(every)} in all, this was the best." if attempts > 1 else ""
    if not moved:
        first = _first(explanation, by, "the words that the search started from")
        return f"No step of the gradient was taken: {_why_none(explanation, steps, first)}.{among}{budget}"
    first = _first(explanation, by, "words that were tried first")
    unmoved = "" if _is_moved(explanation, by) else " No step made the prompt better, so that it is as it was before."
    return f"{_counted(moved)} of the gradient, from {first}.{unmoved}{among}{budget}"


def moving_steps(explanation: Explanation) -> int:
    """Return the number of steps of all attempts that changed the prompt: they have a gradient that is not zero."""
    return _moving(explanation.history)


def steps_without_gradient(explanation: Explanation) -> int:
    """Return the number of steps of all attempts whose gradient was zero although their pictures did not convince."""
    convinced = explanation.settings.get("found", {}).get("steps_convinced")
    return _without_gradient(explanation, explanation.history, convinced)


def _moving(steps: Sequence[Iteration]) -> int:
    return sum(item.gradient_norm > 0 for item in steps)


def _counted(steps: int) -> str:
    return f"{steps} step{'' if steps == 1 else 's'}"


def _best_attempt(explanation: Explanation) -> tuple[list[Iteration], int]:
    """Return the steps of the attempt that was the best, and the number of attempts; all steps where they are one."""
    settings, history = explanation.settings, explanation.history
    last = {entry["attempt"]: entry["step"] for entry in settings.get("validations", ())}
    ends = [0, *accumulate(last[attempt] for attempt in sorted(last))]
    if len(last) < 2 or ends[-1] != len(history):
        return history, 1
    best = settings.get("found", {}).get("attempt")
    if best is None:  # files of earlier versions have the name of the start alone
        names = [start["name"] for start in settings.get("starts", ())]
        best = names.index(settings.get("start")) if settings.get("start") in names else 0
    first, end = [*pairwise(ends)][min(best, len(last) - 1)]
    return history[first:end], len(last)


def _without_gradient(explanation: Explanation, steps: Sequence[Iteration], convinced: int | None) -> int:
    """Return the number of steps whose gradient was zero although their pictures did not all convince."""
    still = len(steps) - _moving(steps)
    if convinced is not None:
        return max(0, still - int(convinced))
    # Files of earlier versions say only which targets and options never end a step because pictures convince.
    options, score = explanation.settings.get("options", {}), explanation.activation.get("held_out")
    never = options.get("stop_probability", 1.0) is None or (score is not None and score.rate is None)
    return still if never else 0


def _why_none(explanation: Explanation, steps: Sequence[Iteration], first: str) -> str:
    found = explanation.settings.get("found", {})
    convinced = found.get("attempt_convinced", found.get("steps_convinced"))
    zero = _without_gradient(explanation, steps, convinced)
    if not zero:
        return f"{first} convinced the classifier"
    if zero == len(steps):
        return f"the gradient was zero, so that {first} could not be changed"
    return f"it was zero in {zero} of {len(steps)} steps, and in the others {first} convinced the classifier"


def _first(explanation: Explanation, by: str, words: str) -> str:
    """Return what the gradient started from, ``words`` where a dictionary gave it."""
    if by.startswith("given"):
        return "the words that were given"
    if by.startswith("proposals"):
        named = explanation.named is not None and bool(explanation.named["words"])
        return f"the words that {'name' if named else 'come nearest to a name of'} what the search found"
    if not by.startswith(("description", "gradient", "random")):
        return words
    at_random = str(explanation.settings.get("start")).startswith("random ")
    return "a random prompt" if at_random else "the prompt that the search found"


def _is_moved(explanation: Explanation, by: str) -> bool:
    """Return whether steps bettered the start; of files of earlier versions, whether it cannot be ruled out."""
    moved = explanation.settings.get("found", {}).get("moved")
    return by == "" or by.endswith("gradient") if moved is None else bool(moved)
