"""Proposals: the words of a large vocabulary that resemble a soft prompt."""

import pytest
import torch

from diffexplain_fast.methods.diffexplainer import vocabulary
from diffexplain_fast.methods.diffexplainer.proposals import proposed_words
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text
from tests.explaining import QUICK, quick_explanation
from tests.methods.diffexplainer.test_population import problem_of


def test_the_words_of_a_prompt_come_before_others() -> None:
    problem = problem_of()
    softs = [soft_from_text(problem.pipeline, text, 2) for text in ("snow", "desert")]
    noise = torch.randn(softs[0].shape, generator=torch.Generator().manual_seed(0))
    words = proposed_words(problem, [soft + 0.1 * soft.std() * noise for soft in softs])
    assert {"snow", "desert"} <= set(words[:4])
    assert len(words) == len(set(words)) <= 16


def test_words_too_many_to_draw_are_proposed_where_a_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "SMALL_VOCABULARY", 3)  # so that the labels are not screened either
    explanation = quick_explanation(**{**QUICK, "start": "auto", "restarts": 1, "restart_below": 1.0})
    starts = explanation.settings["starts"]
    origins = {start["origin"] for start in starts}
    assert "proposals" in origins and origins & {"gradient", "description"}
    # Of each naming 28 are pairs of eight that may be the name; a prompt that steps moved is named a second time.
    assert 1 <= explanation.settings["found"]["words_drawn"] <= 46 * 2
