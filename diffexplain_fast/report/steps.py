"""What an explanation says of the steps of the gradient: what they started from, and what came of them."""

from diffexplain_fast.results.explanation import Explanation


def describe_steps(explanation: Explanation) -> str:
    """Return sentences: what steps of the gradient did, and what the budget left out.

    A step changes nothing where its pictures all convince, or where the gradient is zero; these are told apart.

    Args:
        explanation: the explanation.
    """
    found = explanation.settings.get("found", {})
    moved, left_out = moving_steps(explanation), found.get("left_out")
    by = str(found.get("by", ""))
    spent = "The budget was spent, so that these were left out or cut short"
    budget = f" {spent}: {', '.join(left_out)}." if left_out else ""
    if not moved:
        first = _first(explanation, by, "the words that the search started from")
        return f"No step of the gradient was taken: {_why_none(explanation, first)}.{budget}"
    first = _first(explanation, by, "words that were tried first")
    unmoved = "" if _is_moved(explanation, by) else " No step made the prompt better, so that it is as it was before."
    return f"{moved} step{'s' if moved > 1 else ''} of the gradient, from {first}.{unmoved}{budget}"


def moving_steps(explanation: Explanation) -> int:
    """Return the number of steps that changed the prompt: they have a gradient that is not zero."""
    return sum(item.gradient_norm > 0 for item in explanation.history)


def steps_without_gradient(explanation: Explanation) -> int:
    """Return the number of steps whose gradient was zero although their pictures did not all convince."""
    still = len(explanation.history) - moving_steps(explanation)
    convinced = explanation.settings.get("found", {}).get("steps_convinced")
    if convinced is not None:
        return max(0, still - int(convinced))
    # Files of earlier versions say only which targets and options never end a step because pictures convince.
    options, score = explanation.settings.get("options", {}), explanation.activation.get("held_out")
    never = options.get("stop_probability", 1.0) is None or (score is not None and score.rate is None)
    return still if never else 0


def _why_none(explanation: Explanation, first: str) -> str:
    zero, steps = steps_without_gradient(explanation), len(explanation.history)
    if not zero:
        return f"{first} convinced the classifier"
    if zero == steps:
        return f"the gradient was zero, so that {first} could not be changed"
    return f"it was zero in {zero} of {steps} steps, and in the others {first} convinced the classifier"


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
