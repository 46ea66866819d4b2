"""Which edits are tried again, and which pairs are drawn."""

from types import SimpleNamespace
from typing import Any

import torch

from diffexplain_fast.methods.diffex.kinds import calls_of, editor_for, steps_of
from diffexplain_fast.methods.diffex.pairs import chosen_pairs
from diffexplain_fast.methods.diffex.scene import Job
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.methods.diffex.verdict import Verdict
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.results.effects import Effect
from diffexplain_fast.taxonomy import Concept, Taxonomy

NO, YES, TOO = Verdict(False), Verdict(True), Verdict(True, ("texture",))
"""Nothing that was asked for appeared; it did; and something else changed too."""


def tried(
    verdicts: dict[str, list[Verdict]], unsure: tuple[str, ...] = (), concepts: int = 1
) -> dict[str, tuple[int, int]]:
    """Return how often each category is tried, of at most three times, and which try counts.

    Args:
        verdicts: of the tries of each category.
        unsure: categories that the verifier does not tell apart well.
        concepts: of each job.
    """
    counts = dict.fromkeys(verdicts, 0)

    class Counted(Lab):
        """A lab whose edits are verdicts only; the effect of a try is its number."""

        def rows(self, scene: Any, jobs: Any, attempt: int = 0) -> int:
            return 0

        def _once(self, scene: Any, jobs: Any, attempt: int, seed: int) -> list[Trial]:
            nothing, names = torch.zeros(1), [*(name for job in jobs for name in job.changes)]
            counts.update({name: counts[name] + 1 for name in names})
            return [
                Trial(
                    job,
                    nothing,
                    nothing,
                    verdicts[name][attempt],
                    float(attempt),
                    0.0,
                    0.0,
                    False,
                    "",
                    "swap",
                    0.0,
                    True,
                )
                for job, name in zip(jobs, names, strict=True)
            ]

    budget = SimpleNamespace(allows=lambda rows: True, at_once=lambda jobs: jobs)
    lab: Any = Counted(None, SimpleNamespace(unsure=unsure), None, budget, None, None)  # type: ignore[arg-type]
    jobs = [Job((Concept(name, (name, "x")),) * concepts, {name: "x"}, "") for name in verdicts]
    trials = lab.run(None, jobs)
    return {name: (counts[name], int(trial.effect)) for name, trial in zip(verdicts, trials, strict=True)}


def test_a_rejected_edit_is_tried_three_times_and_twice_where_the_verifier_is_unsure() -> None:
    assert tried({"object": [YES], "colour": [NO] * 3}) == {"object": (1, 0), "colour": (3, 0)}
    assert tried({"object": [NO] * 2, "colour": [NO, NO, YES]}, ("object",)) == {"object": (2, 0), "colour": (3, 2)}
    assert tried({"object": [NO, YES], "colour": [NO, YES]}, ("object",)) == {"object": (2, 1), "colour": (2, 1)}


def test_an_edit_that_changes_something_else_is_tried_again_and_the_best_try_counts() -> None:
    more = Verdict(True, ("texture", "size"))
    assert tried({"colour": [TOO, YES]}) == {"colour": (2, 1)}
    assert tried({"colour": [TOO, NO]}) == {"colour": (2, 0)}
    assert tried({"colour": [TOO, more]}) == {"colour": (2, 0)}
    assert tried({"colour": [more, TOO]}) == {"colour": (2, 1)}
    assert tried({"colour": [NO, TOO]}) == {"colour": (2, 1)}
    assert tried({"colour": [TOO]}, concepts=2) == {"colour": (1, 0)}  # sets are many


def test_several_kinds_are_swapped_and_then_guided() -> None:
    tries = [editor_for(("background", "object"), attempt, "auto", True) for attempt in range(3)]
    assert tries == ["early guided swap", "guided swap", "stronger swap"]
    assert editor_for(("companion", "object"), 0, "auto", True) == "swap"
    alone = [editor_for(("background",), attempt, "auto", True) for attempt in range(3)]
    assert alone == ["early guided swap", "guided swap", "inpaint"]
    assert editor_for(("texture",), 0, "swap", True) == "swap"


def test_a_surface_is_guided_in_the_cleanest_steps_and_with_its_thing_as_the_thing_is() -> None:
    def tries(*categories: str, regions: bool = True) -> list[str]:
        return [editor_for(categories, attempt, "auto", regions) for attempt in range(3)]

    late, thing = "late guided swap", ["guided swap", "long guided swap", "inpaint"]
    assert tries("texture") == [late, late, "inpaint"]
    assert tries("texture", regions=False) == [late, late, "stronger swap"]
    for quick in (False, True):
        steps, scales = steps_of(late, quick)
        noisy = steps - len(scales) // 2
        assert len(scales) == steps and set(scales[:noisy]) == {1.0} and min(scales[noisy:]) > 1
        assert calls_of(late, quick) == calls_of("guided swap", quick)  # louder in other steps, for the same rows
    assert tries("object") == tries("object", "texture") == tries("texture", "size") == thing
    assert tries("texture", "background")[0] == "early guided swap" and tries("colour", "texture")[0] == "swap"


def test_pairs_are_of_concepts_that_some_edit_has_shown() -> None:
    concepts = Taxonomy({"a": ["x", "y"], "b": ["u", "v"]}).concepts

    def names(verified: dict[str, int]) -> set[frozenset[str]]:
        effects = [Effect(c.name, 1.0, 0.0, 2.0, 0.5, verified.get(c.name, 0), 1.0, 0.5) for c in concepts]
        return {frozenset((a.word, b.word)) for a, b in chosen_pairs(concepts, effects, 4, PlainWording(concepts))}

    assert names({"a:x": 1, "b:u": 2, "b:v": 1}) == {frozenset("xu"), frozenset("xv")}
    assert len(names({})) == 4  # nothing is verified: all are drawn, and none is believed
