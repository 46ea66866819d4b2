"""Which call in a profile is which counted operation: the profile knows the time, the count knows the tensors."""

from collections import defaultdict
from collections.abc import Sequence

from diffexplain_fast.measuring.profile.counting import Operation
from diffexplain_fast.measuring.profile.events import Call


def match(operations: Sequence[Operation], calls: Sequence[Call]) -> list[Call | None]:
    """Return the call of each operation, None where the two runs had not equally many of its name.

    The n-th operation of a name is the n-th call of that name which no other counted operation had called. In place
    or not is the same name: autograd adds gradients in place only while nobody counts.

    Args:
        operations: of one iteration.
        calls: of the host in another iteration of the same problem, by their start.
    """
    names = {_key(operation.name) for operation in operations}
    outermost: defaultdict[str, list[Call]] = defaultdict(list)
    reached = float("-inf")
    for call in calls:
        if call.start >= reached and _key(call.name) in names:
            outermost[_key(call.name)].append(call)
            reached = call.end
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, operation in enumerate(operations):
        numbers[_key(operation.name)].append(number)
    found: list[Call | None] = [None] * len(operations)
    for name, places in numbers.items():
        if len(places) == len(outermost[name]):
            for place, call in zip(places, outermost[name], strict=True):
                found[place] = call
    return found


def starts(found: Sequence[Call | None], begin: float) -> list[float]:
    """Return the seconds from ``begin`` at which each operation began; without a call, as the one before it.

    Args:
        found: from ``match``.
        begin: seconds on the clock of the calls.
    """
    moments, latest = [], 0.0
    for call in found:
        latest = latest if call is None else max(latest, call.start - begin)
        moments.append(latest)
    return moments


def _key(name: str) -> str:
    return name.removesuffix("_")
