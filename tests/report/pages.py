"""An explanation to show, and a parser that checks pages: shared by the tests of reports."""

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow, Interaction, Verdict
from diffexplain_fast.results.explanation import ActivationScore, Explanation, Iteration, Word

VOID = {"meta", "img", "input", "br", "wbr"}


def example(**changes: Any) -> Explanation:
    """Return an explanation of a class whose shortcut is known."""
    values: dict[str, Any] = {
        "target": f"ClassProbability({changes.get('label', 'boat')})",
        "label": "boat",
        "images": [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")],
        "prompt_embeds": torch.zeros(2, 4),
        "activation": {
            "class_name": ActivationScore(32, 0.25, (0.13, 0.42), -1.5, 0.27),
            "train": ActivationScore(16, 1.0, (0.81, 1.0), 7.0, 0.99),
            "held_out": ActivationScore(32, 0.9375, (0.799, 0.983), 6.25, 0.95),
        },
        "words": [[Word("snow", 0.91), Word("ice", 0.5)], [Word("boat", 0.7), Word("red", 0.1)]],
        "history": [Iteration(i, 4.0 - i, float(i), 0.1, 0.5) for i in range(4)],
        "settings": {"classifier": "tinyworld/background", "seed": 0},
        "truth": {
            "attributes": [
                {"attribute": "object:boat", "effect": 6.0, "interval": [5.5, 6.5], "role": "core"},
                {"attribute": "background:snow", "effect": 4.0, "interval": [3.5, 4.5], "role": "spurious"},
                *({"attribute": f"colour:{i}", "effect": -i, "interval": [-i, -i], "role": "none"} for i in range(9)),
            ]
        },
    }
    return Explanation(**values | changes)


def audit_example(**changes: Any) -> Audit:
    """Return an audit of two targets: one answers to snow, the other to nothing."""

    def row(target: str, concept: str, effect: float, role: str) -> AuditRow:
        finding = role in ("core", "spurious", "suppresses")
        shares: Any = (0.98, "label", 0.9, 0.25, None, math.nan, 1.5 if finding else None, 40)
        return AuditRow(
            target, concept, effect, effect - 0.5, effect + 0.5, 0.001, 0.01, finding, role, effect, *shares
        )

    roles = [("background:snow", 2.5, "spurious"), ("object:boat", 6.0, "core"), ("colour:red", -3.0, "suppresses")]
    rows = [row("boat", *one) for one in roles]
    rows += [row("boat", f"texture:{i}", i / 100, "none") for i in range(15)]
    rows += [row("fish", "background:sand", math.nan, "undecided")]
    verdicts = {
        "boat": Verdict("both", ["background:snow"], "boat answers to snow beside its own object.", [], [0, 1, 2, 3]),
        "fish": Verdict("undecided", [], "The pictures did not suffice."),
    }
    pair = Interaction("boat", "background:snow", "colour:red", 1.5, 1.0, 2.0, 0.01, "and")
    settings = {"pictures_used": 400, "minimal_effect": 1.0, "level": 0.05, "eye": None}
    images = [Image.new("RGB", (8, 8), colour) for colour in ("white", "snow", "green", "brown")]
    values: dict[str, Any] = {"classifier": "tiny", "rows": rows, "interactions": [pair], "verdicts": verdicts}
    return Audit(**values | {"settings": settings, "images": images} | changes)


class Page(HTMLParser):
    """Checks that elements nest, and collects every attribute and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.values: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def render(tmp_path: Path, *explanations: Explanation, **options: Any) -> Page:
    """Return the parsed report of explanations."""
    return Page(render_report(explanations, tmp_path / "report.html", **options).read_text(encoding="utf-8"))
