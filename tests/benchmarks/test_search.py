"""The benchmark of the search: its cells are what they say, and its table adds up."""

import pytest
import torch

from benchmarks.search import either, rivals, units
from benchmarks.search.__main__ import says_cue_first, table
from benchmarks.search.cells import COMPOSED, SUITE_KINDS, all_cells, classifier_of, enlarged, subset, suite_cells
from benchmarks.search.rivals import RIVALS, Tried
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS
from tests.explaining import quick_explainer

ROW = {"method": "ours", "cue": "red", "mode": "closed", "kind": "single", "words drawn": 0}
COSTS = {"rows with gradient": 10, "CPU seconds": 1.0, "naming CPU seconds": 0.5}


def test_the_table_has_the_rate_its_lower_bound_and_medians() -> None:
    rows = [{**ROW, **COSTS, "success": i > 0, "rows forward": 100 * i, "words": ["red"] * i} for i in range(4)]
    line, total = (line.split() for line in table([*rows, {**rows[0], "kind": "clean"}]).splitlines()[2:])
    assert line[:10] == ["ours", "closed", "single", "4", "0.75", "0.30", "150", "10", "1.0", "0.5"]
    assert line[-1] == "0.75"
    assert total[:5] == ["ours", "closed", "all", "5", "0.60"]


@pytest.mark.parametrize(
    ("words", "cue", "first"),
    [
        ("a desert house", "desert", True),
        ("house desert", "desert", False),
        ("desert a blue blue house", "blue desert", True),
        ("blue blue blue", "blue desert", False),
        ("blue house desert", "blue desert", False),
        ("sky night", "night", True),
        ("water red", "red sea", True),
        ("land", "desert", False),
        ("", "desert", False),
    ],
)
def test_the_cue_is_first_where_all_its_words_are(words: str, cue: str, first: bool) -> None:
    assert says_cue_first(words.split(), cue) is first


def test_a_subset_begins_with_the_hardest_cells_and_has_no_cell_twice() -> None:
    cells = subset(1000)
    assert len(cells) == len(set(cells)) and set(cells) == set(all_cells())
    assert [cell.classifier for cell in subset(4)] == ["background", "companion", "all-of", "any-of"]


def test_cells_have_the_kind_of_their_cue() -> None:
    kinds = {(cell.classifier, cell.label): cell.kind for cell in all_cells()}
    assert set(kinds.values()) == {"single", "all-of", "any-of", "nameless", "clean"}
    assert kinds["pairs-1", "boat"] == kinds["all-of", "fish"] == "all-of" and kinds["clean", "boat"] == "clean"
    nameless = [cell.cue for cell in all_cells() if cell.kind == "nameless"]
    assert sorted(nameless) == sorted(NAMELESS_WORDS.values())


def test_cells_of_the_truth_suite_have_the_kind_and_the_words_of_their_cue() -> None:
    kinds = {kind: suite_cells(kind) for kind in SUITE_KINDS}
    assert all(len(cells) >= 40 for cells in kinds.values())
    for kind, cells in kinds.items():
        assert {cell.kind for cell in cells} == {SUITE_KINDS[kind]}
    assert {cell.cue for cell in kinds["nameless"]} == set(NAMELESS_WORDS.values())
    assert {len(cell.cue.split()) for cell in kinds["all_of"]} == {2}
    names = [{cell.classifier for cell in cells} for cells in (*kinds.values(), all_cells())]
    assert not set.intersection(set.union(*names[:-1]), names[-1])


def test_the_enlarged_vocabulary_has_words_that_can_be_spelt() -> None:
    plain, pipeline = load_pipeline("tinyworld"), enlarged(300, seed=0)
    words, table_ = pipeline.words(), pipeline.word_table()
    assert words[: len(plain.words())] == plain.words() and len(words) == len(set(words)) == len(plain.words()) + 300
    for word in ("desert", words[-1]):
        assert torch.equal(pipeline.token_embeddings(f"a {word}")[1], table_[words.index(word)])
    assert torch.equal(plain.encode_text(["a fish"]).prompt_embeds, pipeline.encode_text(["a fish"]).prompt_embeds)
    added = table_[-300:]
    assert float((added.std(0) / plain.word_table().std(0)).mean()) == pytest.approx(1, abs=0.05)


def test_composed_classifiers_answer_to_both_and_to_either() -> None:
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    background, colour = (Classifier.from_pretrained(f"tinyworld/{name}") for name in ("background", "colour"))
    labels = list(background.labels or ())
    first, second = (each.respond(pixels).logits.log_softmax(1).exp() for each in (background, colour))
    fish, star = first[:, labels.index("fish")], first[:, labels.index("star")]
    purple = second[:, labels.index("mushroom")]
    both, either = (classifier_of(name).respond(pixels).logits for name in COMPOSED)
    odds = (both[:, labels.index("fish")] - both[:, labels.index("boat")]).double()
    torch.testing.assert_close(odds.sigmoid(), torch.minimum(fish, purple).double(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(either.softmax(1)[:, labels.index("fish")], fish + star, rtol=1e-3, atol=1e-6)


RIVALS_OF_THEIR_OWN = ("random words", "pez", "gumbel", "evolution", "cma-es", "class tokens", "dpo-diff")


@pytest.mark.parametrize("name", RIVALS_OF_THEIR_OWN)
def test_a_rival_ends_with_its_budget_and_keeps_its_best_prompt(name: str) -> None:
    if name == "cma-es":
        pytest.importorskip("cma")
    rival = RIVALS[name]
    with quick_explainer(gradient=rival.gradient) as explainer:
        found = rival.search(explainer, "boat", "open", "100 rows")
        again = rival.search(explainer, "boat", "open", "100 rows")
    assert 100 <= found.forward + found.gradient < 100 + 16 * 2 * 10 * 2
    assert torch.equal(found.soft, again.soft) and found.soft.shape[0] == len(found.words)


def test_class_tokens_keep_the_class_name_and_children_are_words_of_their_parents_or_drawn() -> None:
    with quick_explainer(gradient="last:1") as explainer:
        found = RIVALS["class tokens"].search(explainer, "boat", "open", "100 rows")
        assert torch.equal(found.soft[-1], explainer.pipeline.token_embeddings("boat")[-1].float())
    parents, chances = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.eye(7)[[6, 6, 6]]
    children = rivals.children(parents, chances)
    allowed = [{0, 3, 6}, {1, 4, 6}, {2, 5, 6}]
    assert all(set(column.tolist()) <= words for column, words in zip(children.T, allowed, strict=True))


def test_a_rival_without_a_budget_is_refused() -> None:
    with quick_explainer() as explainer, pytest.raises(SystemExit, match="give it a --budget"):
        Tried(explainer, "boat", None)


def test_cells_of_either_have_two_values_and_each_is_there_once() -> None:
    found = either.either_cells(3)
    assert [planned.name for planned, *_ in found] == [
        name for name in ("pairs-00", "pairs-01", "pairs-02") for _ in "ab"
    ]
    assert all(len(set(values)) == 2 for *_, values in found) and len({str(cell) for cell in found}) == 6


@pytest.mark.parametrize(
    ("shows", "rates", "found"),
    [
        ([(1.0, 0.0), (0.1, 0.9)], (0.95, 0.9), True),
        ([(0.1, 0.9), (1.0, 0.0)], (0.95, 0.9), True),
        ([(0.9, 0.9), (0.9, 0.0)], (1.0, 1.0), True),
        ([(1.0, 0.0), (1.0, 0.0)], (1.0, 1.0), False),
        ([(0.9, 0.9), (0.0, 0.0)], (1.0, 1.0), False),
        ([(1.0, 0.0), (0.0, 1.0)], (1.0, 0.8), False),
        ([(1.0, 1.0)], (1.0,), False),
    ],
    ids=["in order", "in the other order", "one shows both", "the same twice", "one of two", "too rarely", "one only"],
)
def test_both_values_are_found_by_two_explanations_that_convince(
    shows: list[tuple[float, float]], rates: tuple[float, ...], found: bool
) -> None:
    made = [
        {"rate": rate, "shows": dict(zip("ab", each, strict=True))} for each, rate in zip(shows, rates, strict=True)
    ]
    assert either.both(made, ["a", "b"], {}) is found
    assert either.both(made, ["a", "b"], {"b": 0.85}) is (found or rates == (1.0, 0.8))


def test_the_table_of_either_has_shares_and_medians() -> None:
    rows = [
        {"mode": "closed", "both": i > 0, "found": [{"rows": 100}, {"rows": 50 * i}], "CPU seconds": i}
        for i in (0, 1, 4)
    ]
    assert either.table(rows).splitlines()[1].split() == ["closed", "3", "0.67", "0.21", "150", "1.0"]


def test_units_are_spread_over_those_that_respond() -> None:
    high = torch.tensor([1.0, 0.0, 2.0, 0.01, 1.5, 1.0, 3.0])
    rows = {"colour:red": high, "colour:blue": torch.zeros(7)}
    assert units.chosen_units(rows, 2) == [0, 4] and units.chosen_units(rows, 9) == [0, 2, 4, 5, 6]


def test_the_table_of_units_has_shares_and_how_far_they_come() -> None:
    rows = [
        {"mode": "closed", "success": i > 0, "of the maximum": 0.5 * i, "rows": 100 * i, "CPU seconds": i}
        for i in (0, 2, 4)
    ]
    assert units.table(rows).splitlines()[1].split() == ["closed", "3", "0.67", "0.21", "1.00", "200", "2.0"]
