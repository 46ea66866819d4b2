"""The benches of a search among many leaves, and of audits beside edits: their figures on made-up numbers."""

from typing import Any

import numpy as np
import pytest

from benchmarks.editing.agreement import Cell, correlation, figures, scenes_of
from benchmarks.editing.leaves import ENOUGH, Case, case_of, record_of
from benchmarks.editing.leaves import figures as search_figures
from benchmarks.editing.phrases import leaves
from diffexplain_fast.methods.diffex import screening
from diffexplain_fast.results.agreement import AgreementRow
from diffexplain_fast.tinyworld.grammar import VOCABULARY
from diffexplain_fast.tinyworld.rewording import WorldWording


def test_there_are_more_than_200_leaves_which_all_can_be_said() -> None:
    taxonomy, wording = leaves(VOCABULARY), WorldWording(VOCABULARY)
    phrases = [concept.word for concept in taxonomy.concepts if " " in concept.word]
    assert len(taxonomy) >= 200 and len(phrases) > 150 and all(wording.parts(phrase) for phrase in phrases)
    assert {len(wording.parts(phrase)) for phrase in phrases} == {2, 3}
    assert max(len(concept.path) for concept in taxonomy.concepts) == 5  # look, size, group, colour, phrase


def case(kept: float, rows: float, best: float = 3.0) -> Case:
    """Return a case of a search with ten finalists."""
    return Case("clean", "fish", {10: kept}, {10: rows}, 10, best, kept == 1)


def test_a_case_is_near_enough_or_not_and_those_of_a_scene_belong_together() -> None:
    scenes = [[case(1.0, 0.3), case(0.96, 0.4)], [case(0.5, 0.35), case(1.0, 0.35)]]
    found = search_figures(scenes)
    share = found[f"at least {ENOUGH} of the best effect"]
    assert (share["share"], share["n"]) == (0.75, 4) and found["least kept"] == 0.5
    assert found["share of the exhaustive rows, most"] == 0.4
    assert found["interval over scenes"] == [0.5, 1.0]
    assert not record_of(scenes, [200, 210], [2000, 2000])["bar"]
    good = [[case(1.0, 0.3)] * 2] * 2
    assert record_of(good, [200, 210], [2000, 2000])["bar"]
    assert not record_of([[case(1.0, 0.5)]], [200], [2000])["bar"]


def test_a_search_finds_what_its_quick_edits_rank_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:
        """Made-up edits, of which each takes ten rows."""

        verified, rows = np.array([True] * 19 + [False]), 200

        def rows_of(self, some: Any) -> int:
            return 40 + 10 * len(some)

    monkeypatch.setattr(screening, "FINALISTS", 3)
    full = np.arange(20.0)
    quick = -full  # of either sign
    made_up: Any = Rows()
    found = case_of(made_up, "clean", "fish", quick, full)
    assert found.kept[3] == 1 and found.best == 18 and found.same  # what is not verified is no effect
    assert found.rows[3] == pytest.approx(70 / 200) and found.kept[1] == 0
    assert case_of(made_up, "clean", "fish", full[::-1].copy(), full).kept[3] == pytest.approx(2 / 18)


def test_audits_and_edits_are_correlated_over_all_cells() -> None:
    def cell(label: str, audited: float, edited: float, truth: float) -> Cell:
        ends = audited, audited - 1, audited + 1, edited, edited - 1, edited + 1
        return Cell("clean", label, AgreementRow("a:b", *ends, 1.0, abs(audited - edited) > 3, True, 5), truth)

    cells = [cell(label, x, 2 * x, 2 * x) for label in ("fish", "boat") for x in (-1.0, 0.0, 1.0, 2.0)]
    found = figures([*cells, cell("fish", 5.0, 1.0, 1.5)])
    assert found["cells"] == 9 and found["sets"] == 2 and found["differ"]["share"] == pytest.approx(1 / 9)
    assert correlation(cells) == pytest.approx(1) and found["r"] < 1
    assert found["of those, edits are nearer to the scenes rendered anew"]["share"] == 1
    assert found["largest differences"][0]["audited"] == 5.0


def test_scenes_show_the_object_that_is_asked_for() -> None:
    scenes = scenes_of("fish", 2, ["nothing"], 7)
    assert [scene.attributes["object"] for scene in scenes] == ["fish"] * 2 and scenes[0].seed != scenes[1].seed
