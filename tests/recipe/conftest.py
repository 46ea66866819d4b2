"""The fixture under which classifiers are made in no time."""

import pytest

from diffexplain_fast.recipe import planting
from diffexplain_fast.recipe import truth as truths
from tests.quickly_made import unmeasured


@pytest.fixture
def few(request, monkeypatch, tmp_path_factory):
    """A cache folder for the tests of a file, and trainings that take no time except in slow tests."""
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    if "slow" in request.keywords:
        return
    monkeypatch.setattr(planting, "PLAN", planting.PLAN._replace(steps=2, batch=4))
    monkeypatch.setattr(planting, "SCENES", 12)
    monkeypatch.setattr(truths, "measure_truth", unmeasured)
