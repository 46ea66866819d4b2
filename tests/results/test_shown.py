"""Results with thousands of rows are shown in one line."""

from diffexplain_fast.evidence.candidates import Candidate, Candidates
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.results.photographs import Agreement, Explained, Photographs
from diffexplain_fast.results.salient import Agreed, SalientAgreement, SalientPair


def test_candidates_are_counted() -> None:
    rows = tuple(Candidate(f"word{i}", "word", "user", kept=i < 2) for i in range(300))
    shown = repr(Candidates(rows, Concepts(words=["word0", "word1"])))
    assert shown == "Candidates(300 rows, 2 kept, 2 concepts)"


def test_own_pictures_are_counted() -> None:
    explained = [Explained("fish", 9, 0.6, 0.8, 0.01, explained=False)]
    groups = ["fish, background:desert"] * 10_000
    found = Photographs(10_000, [], Agreement(0, None, None, None), explained, groups=groups)
    assert repr(found) == "Photographs(10000 pictures, 0 findings in 0 rows, 0 slices, 1 targets unexplained)"


def test_an_agreement_is_its_sentence() -> None:
    none = Agreed(None, None, None, 0)
    pairs = [SalientPair("fish", i, "background:snow", "undecided", "core", 0, 5) for i in range(5000)]
    shown = repr(SalientAgreement(pairs, none, none, none, None))
    assert shown == "SalientAgreement(5000 pairs: no pair of class and unit is decided, 5000 are undecided)"
