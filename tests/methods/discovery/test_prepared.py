"""Captions of own objects are made once, and only when they are drawn, unless they may be too long."""

from types import SimpleNamespace
from typing import Any

import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import phrases_of
from diffexplain_fast.methods.discovery import drawn, prepared
from diffexplain_fast.methods.discovery.drawn import own_pictures
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.plan import own_plan
from diffexplain_fast.methods.discovery.prepared import prepare
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd

CONCEPTS = Concepts({"background": ["desert", "snow"], "colour": ["red", "blue"]})


@pytest.mark.parametrize("sure", [True, False])
def test_captions_of_own_objects_are_made_once_and_late(sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def making(*given: Any) -> Any:
        events.append(f"made {given[5][1]}")
        return own_plan(*given)

    def measured(pool: Any, plan: Any, *rest: Any) -> str:
        events.append("drawn")
        return plan.captions[0]

    monkeypatch.setattr(prepared, "own_plan", making)
    monkeypatch.setattr(drawn, "measured", measured)
    if not sure:
        monkeypatch.setattr(prepared, "surely_fit", lambda *given: False)
    pipeline: Any = load_pipeline(tiny_sd())
    pool: Any = SimpleNamespace(pipeline=pipeline)
    readout: Any = SimpleNamespace(labels=("boat", "fish"), names=("boat", "fish"))
    question = Question(pool, readout, CONCEPTS, phrases_of(CONCEPTS, pipeline), None, 0)
    ready = prepare(question, AuditOptions(pictures=24, own_pictures=24))
    assert events == ([] if sure else ["made boat", "made fish"]), "before anything is drawn"
    pictures = own_pictures(ready, lambda done, total: None)
    late = ["made boat", "drawn", "made fish", "drawn"]
    assert events == (late if sure else ["made boat", "made fish", "drawn", "drawn"])
    assert "boat" in pictures[0][1] and "fish" in pictures[1][1] and len(pictures[0][0].captions) == 24
    assert [ready.own[place]() is plan for place, (plan, _) in pictures.items()] == [True, True]
