"""What own pictures add to the sentences of verdicts."""

from collections.abc import Mapping
from dataclasses import replace

from diffexplain_fast.results.audit_rows import Verdict
from diffexplain_fast.results.photographs import Photographs


def with_unexplained(verdicts: Mapping[str, Verdict], found: Photographs) -> dict[str, Verdict]:
    """Return verdicts whose sentences say what no concept explains in own pictures.

    Args:
        verdicts: target to its verdict.
        found: what own pictures say.
    """
    added = "In own pictures its answers are not explained by any concept."
    hidden = set(found.unexplained)
    return {
        target: replace(verdict, sentence=f"{verdict.sentence} {added}") if target in hidden else verdict
        for target, verdict in verdicts.items()
    }
