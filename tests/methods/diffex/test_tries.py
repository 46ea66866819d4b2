"""Which edits are tried again, and which pairs are drawn."""

from types import SimpleNamespace
from typing import Any

from diffexplain_fast.methods.diffex.eyes import Verdict
from diffexplain_fast.methods.diffex.kinds import editor_for
from diffexplain_fast.methods.diffex.pairs import chosen_pairs
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.results.effects import Effect
from diffexplain_fast.taxonomy import Taxonomy


def tried(unsure: tuple[str, ...], appears_at: dict[str, int]) -> dict[str, int]:
    """Return how often each category is tried whose edit appears at the given try, of at most three."""
    counts = dict.fromkeys(appears_at, 0)

    class Counted(Lab):
        """A lab whose edits are verdicts only."""

        def rows(self, jobs: Any, attempt: int = 0) -> int:
            return 0

        def _once(self, scene: Any, jobs: Any, attempt: int, seed: int) -> list[Any]:
            for job in jobs:
                counts[job.changes[0]] += 1
            good = [attempt >= appears_at[job.changes[0]] for job in jobs]
            return [SimpleNamespace(verified=one, verdict=Verdict(one)) for one in good]

    budget = SimpleNamespace(allows=lambda rows: True, at_once=lambda jobs: jobs)
    lab: Any = Counted(None, SimpleNamespace(unsure=unsure), None, budget, None, None)  # type: ignore[arg-type]
    lab.run(None, [SimpleNamespace(changes=(name,)) for name in appears_at])
    return counts


def test_a_rejected_edit_is_tried_three_times_and_twice_where_the_verifier_is_unsure() -> None:
    never = 9
    assert tried((), {"object": 0, "colour": never}) == {"object": 1, "colour": 3}
    assert tried(("object",), {"object": never, "colour": 2}) == {"object": 2, "colour": 3}
    assert tried(("object",), {"object": 1, "colour": 1}) == {"object": 2, "colour": 2}


def test_several_kinds_are_swapped_and_then_guided() -> None:
    tries = [editor_for(("background", "object"), attempt, "auto", True) for attempt in range(3)]
    assert tries == ["early guided swap", "guided swap", "stronger swap"]
    assert editor_for(("companion", "object"), 0, "auto", True) == "swap"
    alone = [editor_for(("background",), attempt, "auto", True) for attempt in range(3)]
    assert alone == ["early guided swap", "guided swap", "inpaint"]
    assert [editor_for(("texture",), attempt, "auto", True) for attempt in range(3)][2] == "inpaint"
    assert [editor_for(("texture",), attempt, "auto", False) for attempt in range(3)][2] == "stronger swap"
    assert editor_for(("texture",), 0, "swap", True) == "swap"


def test_pairs_are_of_concepts_that_some_edit_has_shown() -> None:
    concepts = Taxonomy({"a": ["x", "y"], "b": ["u", "v"]}).concepts

    def names(verified: dict[str, int]) -> set[frozenset[str]]:
        effects = [Effect(c.name, 1.0, 0.0, 2.0, 0.5, verified.get(c.name, 0), 1.0, 0.5) for c in concepts]
        return {frozenset((a.word, b.word)) for a, b in chosen_pairs(concepts, effects, 4, PlainWording(concepts))}

    assert names({"a:x": 1, "b:u": 2, "b:v": 1}) == {frozenset("xu"), frozenset("xv")}
    assert len(names({})) == 4  # nothing is verified: all are drawn, and none is believed
