"""A question with the captions of its trial: everything that can be refused is refused before a picture is drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from diffexplain_fast.evidence.phrases import surely_fit
from diffexplain_fast.methods.discovery.found import check_room
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import own_concept, spoken
from diffexplain_fast.methods.discovery.plan import BAG, Plan, context_plan, own_plan
from diffexplain_fast.methods.discovery.question import Found, Question
from diffexplain_fast.methods.discovery.redraw import check_redraw
from diffexplain_fast.methods.discovery.trial import Measured, measured
from diffexplain_fast.records import JsonObject
from diffexplain_fast.stats.cells import check_asked

OWN_GROUP = "object"
"""What a class's own object is called in a caption that names it beside the concepts."""


@dataclass(frozen=True)
class Prepared:
    """A question that is ready to be drawn.

    Attributes:
        question: what is asked.
        options: how many pictures, and what counts as a finding.
        context: captions of the pictures that serve every class.
        own: place of a target to a function that returns captions that ask for its own object, made once.
        need: what pictures of own objects take, for the settings.
    """

    question: Question
    options: AuditOptions
    context: Plan
    own: dict[int, Callable[[], Plan]]
    need: JsonObject

    def with_found(self, found: Mapping[int, Found]) -> "Prepared":
        """Return the same question with what a search has found.

        Args:
            found: place of a target to what was found for it.

        Raises:
            ValueError: a caption and the tokens together are too long.
        """
        question = replace(self.question, found=found)
        check_room(question)
        return replace(self, question=question)


def prepare(question: Question, options: AuditOptions, tokens: int = 0) -> Prepared:
    """Return a question with its captions, checked; draws nothing.

    Captions of own objects are made when they are drawn, except where only the captions can say that they fit.

    Args:
        question: what is asked.
        options: how many pictures, and what counts as a finding.
        tokens: how many tokens a search will find for every target; 0 without a search.

    Raises:
        ValueError: captions that the pipeline would truncate, on their own or with the tokens of an explanation;
            weights of what is no concept, or that leave too few pictures; fewer pictures than terms at a look; pictures
            that are to be drawn again without an eye.
    """
    concepts, phrases, pipeline = question.concepts, question.phrases, question.pool.pipeline
    shares = question.shares
    context = context_plan(concepts, phrases, pipeline, options.pictures, question.seed, shares)
    check_asked(context.first(options.pictures).asked, [look.pictures for look in options.looks])
    check_redraw(question, context, options.redraw)
    check_room(question, tokens)
    named = {
        place: spoken(label)
        for place, label in enumerate(question.readout.labels)
        if label is not None and own_concept(concepts, label) is None and pipeline.spells(spoken(label))
    }
    count = options.own_count(len(named))
    need: JsonObject = {"classes": len(named), "pictures_each": count}
    if not count:
        pictures = options.pictures // 4
        need["plan"] = f"own_pictures={pictures} draws {pictures * len(named)} pictures more" if named else ""
        return Prepared(question, options, context, {}, need)

    def captions_of(name: str) -> Callable[[], Plan]:
        group = OWN_GROUP, name
        return cache(lambda: own_plan(concepts, phrases, pipeline, count, question.seed, group, shares).first(count))

    own = {place: captions_of(name) for place, name in named.items()}
    if not surely_fit(concepts, phrases, pipeline, OWN_GROUP, list(named.values()), BAG):
        for captions in own.values():
            captions()
    return Prepared(question, options, context, own, need)


def own_pictures(prepared: Prepared, report: Callable[[int, int], None]) -> dict[int, tuple[Plan, Measured]]:
    """Return plan and data of pictures of own objects, by the place of the target.

    Args:
        prepared: the question.
        report: receives pictures that are there and pictures that are wanted, of one class after the other.
    """
    pool, readout = prepared.question.pool, prepared.question.readout
    plans = ((place, captions()) for place, captions in prepared.own.items())
    return {place: (plan, measured(pool, plan, readout, None, 0, len(plan.captions), report)) for place, plan in plans}


def used_pictures(prepared: Prepared, count: int) -> Iterator[Tensor]:
    """Yield the first pictures of the pool that serve every class, as pixels [B, 3, H, W] in [0, 1].

    Args:
        prepared: the question.
        count: how many were used.
    """
    pool, plan = prepared.question.pool, prepared.context
    for levels in pool.pictures(plan.stage, plan.captions, 0, count):
        yield pool.as_pixels(levels)
