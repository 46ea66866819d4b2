"""Captions of own objects are made once, and only when they are drawn, unless they may be too long."""

from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.methods.discovery import prepared, screen
from diffexplain_fast.methods.discovery.plan import own_plan
from tests.auditing import quick_audit

CONCEPTS = Concepts({"background": ["desert", "snow"]}, ["red", "blue", "tree", "house"])


@pytest.mark.parametrize("sure", [True, False])
def test_captions_of_own_objects_are_made_once_and_late(
    sure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MOST": 3, "KEPT": 2, "EACH": 4}.items():
        monkeypatch.setattr(screen, name, value)
    images, drawn, made = Drawing.images, [0], list[tuple[str, int]]()

    def drawing(*given: Any, **options: Any) -> Any:
        drawn[0] += 1
        return images(*given, **options)

    def making(*given: Any) -> Any:
        made.append((given[5][1], drawn[0]))
        return own_plan(*given)

    monkeypatch.setattr(Drawing, "images", drawing)
    monkeypatch.setattr(prepared, "own_plan", making)
    if not sure:
        monkeypatch.setattr(prepared, "surely_fit", lambda *given: False)
    audit = quick_audit(tmp_path, targets=["boat", "fish"], concepts=CONCEPTS, own_pictures=24)
    assert audit.settings["screened"], "the words were screened, so that the captions were prepared twice"
    names = [name for name, _ in made]
    assert names == (["boat", "fish"] if sure else ["boat", "fish"] * 2)
    assert all(before > 0 for _, before in made) is sure, "the first captions are made before any picture"
