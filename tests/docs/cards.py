"""The table of cards in a page, estimated by the plan and the time model: ``python -m tests.docs.cards``."""

from typing import NamedTuple

from diffexplain_fast.measuring.estimate import CARDS, GIB
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.prediction.predict import predict
from tests.docs.reading import DOCS

PAGE = DOCS / "published-classifier.md"
BEGIN, END = "<!-- numbers: python -m tests.docs.cards -->", "<!-- end of numbers -->"
SHOWN = {"rtx3060": "RTX 3060", "rtx3090": "RTX 3090", "rtx4090": "RTX 4090", "h100": "H100"}
"""Cards in the table, and how the table calls them."""
_SHARE = 0.9
"""Share of a card that a plan may fill, as in ``diffexplain-fast bench estimate``."""


class Case(NamedTuple):
    """One column of the table: a model of ``bench estimate`` and its sampling."""

    title: str
    model: str
    steps: int
    guided: bool


CASES = (
    Case("Stable Diffusion 1.5, 20 steps, guidance", "sd15", 20, True),
    Case("SDXL at 1024 x 1024, 4 steps, no guidance", "sdxl", 4, False),
)


def table() -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| card | " + " | ".join(f"{case.title}: memory; one iteration" for case in CASES) + " |",
        "|---" * (1 + len(CASES)) + "|",
    ]
    for card, name in SHOWN.items():
        cells = [_cell(card, case) for case in CASES]
        lines.append(f"| {name}, {CARDS[card].gib:g} GiB | {' | '.join(cells)} |")
    return lines


def _cell(card: str, case: Case) -> str:
    found = predict(
        case.model,
        card,
        steps=case.steps,
        guided=case.guided,
        batch=Options.images_per_step,
        memory=int(_SHARE * CARDS[card].gib * GIB),
    )
    return f"{found.plan.peak / GIB:.1f} GiB; {found.ms / 1e3:.1f} s"


def rendered(page: str, lines: list[str]) -> str:
    """Return a page with other lines between the two marks.

    Args:
        page: the page, with both marks.
        lines: lines of the table.
    """
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    found = table()  # takes minutes, so the page is read after it
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
