"""A question with the captions of its trial: everything that can be refused is refused before a picture is drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from diffexplain_fast.evidence.concept_names import spoken
from diffexplain_fast.evidence.phrases import surely_fit
from diffexplain_fast.methods.discovery.found import check_room
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.plan import BAG, Plan, context_plan, own_plan
from diffexplain_fast.methods.discovery.question import Found, Question
from diffexplain_fast.methods.discovery.redraw import check_redraw
from diffexplain_fast.records import JsonObject
from diffexplain_fast.stats.asked import check_asked
from diffexplain_fast.stats.cells import Rule

OWN_GROUP = "object"
"""What a class's own object is called in a caption that names it beside the concepts."""


@dataclass(frozen=True)
class Prepared:
    """A question that is ready to be drawn.

    Attributes:
        question: what is asked.
        options: how many pictures, and what counts as a finding.
        context: captions of the pictures that serve every class.
        own: place of a target whose name is no concept to a function that makes captions of its own object, once.
        beside: the same of targets whose name is a concept: drawn where something is undecided after the last look.
        need: what pictures of own objects take, for the settings.
    """

    question: Question
    options: AuditOptions
    context: Plan
    own: dict[int, Callable[[], Plan]]
    beside: dict[int, Callable[[], Plan]]
    need: JsonObject

    @property
    def rule(self) -> Rule:
        """How the cells are tested."""
        sight = self.question.sight
        return self.options.rule(bool(self.beside), sight is not None and bool(sight.errors), self.question.seed)

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
    concepts, phrases, pipeline, shares = question.concepts, question.phrases, question.pool.pipeline, question.shares
    context = context_plan(concepts, phrases, pipeline, options.pictures, question.seed, shares)
    check_asked(context.first(options.pictures).asked, [look.pictures for look in options.rule(False, False, 0).looks])
    check_redraw(question, context, options.redraw)
    check_room(question, tokens)
    named = {
        place: spoken(label)
        for place, label in enumerate(question.readout.labels)
        if label is not None and own_concept(concepts, label) is None and pipeline.spells(spoken(label))
    }
    count = options.own_count(len(named))
    need: JsonObject = {"classes": len(named), "pictures_each": count}

    def captions_of(own: tuple[str, str], count: int) -> Callable[[], Plan]:
        return cache(lambda: own_plan(concepts, phrases, pipeline, count, question.seed, own, shares).first(count))

    own = {place: captions_of((OWN_GROUP, name), count) for place, name in named.items() if count}
    if not count:
        each = options.pictures // 4
        need["plan"] = f"own_pictures={each} draws {each * len(named)} pictures more" if named else ""
    elif not surely_fit(concepts, phrases, pipeline, OWN_GROUP, list(named.values()), BAG):
        _make(own)
    places = [own_concept(concepts, label) for label in question.readout.labels]
    parts = {place: concepts.names[at].partition(":")[::2] for place, at in enumerate(places) if at is not None}
    beside = {place: captions_of(part, options.beside) for place, part in parts.items() if options.beside}
    values = [value for _, value in parts.values()]
    if not phrases.of_tiny_world and not surely_fit(concepts, phrases, pipeline, OWN_GROUP, values, BAG):
        _make(beside)  # no caption in the grammar of the tiny world is too long
    return Prepared(question, options, context, own, beside, need)


def _make(captions: Mapping[int, Callable[[], Plan]]) -> None:
    """Make captions now, so that they are refused now."""
    for one in captions.values():
        one()
