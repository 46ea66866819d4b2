"""What looks at own pictures, and whether it is there and works."""

from dataclasses import dataclass

from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.shipped import Ask, Segment
from diffexplain_fast.methods.photographs.given import Given
from diffexplain_fast.methods.photographs.pasting import pastable
from diffexplain_fast.stats.clustered import check_clustered


@dataclass(frozen=True)
class Tools:
    """What looks at own pictures.

    Attributes:
        sight: sees concepts; None for none.
        segment: finds regions; None for none.
        ask: says what a segmenter is asked for.
    """

    sight: Sight | None
    segment: Segment | None
    ask: Ask


def check_tools(tools: Tools, given: Given, concepts: Concepts) -> None:
    """Refuse what would fail only after all pictures of the generator are drawn.

    Args:
        tools: what looks at the pictures; the segmenter is tried on the first picture.
        given: the pictures.
        concepts: of the audit.

    Raises:
        ImportError: a package is missing; names the extra.
        ValueError: a segmenter that returns something else than masks.
    """
    if tools.sight is None:
        return
    check_clustered(models=tools.segment is not None)
    groups = pastable(concepts)
    if tools.segment is not None and groups:
        tools.segment(given.pixels[:1], [list(concepts.groups.values())[groups[0]][0]])
