"""The rows of an audit: what one concept does to one target, what two do together, and what is said of a target."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffexplain_fast.number_texts import interval_texts, share_text
from diffexplain_fast.records import Count, Number
from diffexplain_fast.results.record import Record

INTERVENTION, PLACEBO = "intervention", "placebo"
"""Groups of the concepts of rows that come from interventions."""
OWN_EYE = "the user's"
"""What results call an eye of the user's own."""
_FEATURES = {
    "unnamed": "; that survives JPEG and a shift: a feature without a name",
    "fragile": "; the rest does not survive JPEG and a shift: a fragile pattern",
    "not confirmed": "; that is not shown to be above the minimal effect",
}
"""How the sentence about a found feature ends, by its kind."""
_OPEN = {
    "undecided": "undecided: more pictures are needed",
    "small": "small: not zero, and not shown to be above the minimal one",
    "not drawable": "not drawable: the pictures seldom show what was asked for",
}
"""What is not known of an effect that is no finding, by its role."""


@dataclass(frozen=True)
class AuditRow(Record):
    """What asking the generator for one concept does to one target.

    Effects are in centred logits (the logit minus the mean over the classes), in log-odds for a sigmoid, in the output
    itself for a regression; they compare a value with the median over the values of its group.

    Attributes:
        target: label of the class, or description of another target.
        concept: "group:value", or "word:value" for a free word.
        effect: estimate, averaged over pictures with and without the target's own object.
        low: lower end of its interval; NaN where nothing tells the error, such as one picture of a value.
        high: upper end.
        p: of the test that the effect does not exceed the minimal effect, in the direction of the estimate.
        adjusted_p: the same, adjusted over all rows and both directions; both are NaN where fewer than 12 pictures ask
            for the concept, because nothing is tested there.
        finding: whether the effect exceeds the minimal effect.
        role: "core", "spurious", "suppresses", "none", "small", "undecided" or "not drawable".
        asked: effect of asking for the word; ``effect`` is the same number unless it is corrected for disobeyed words.
        obeyed: share of the pictures that were asked for the concept in which an eye sees it; None without an eye.
        declared_by: what says that the concept is the target's own: "label", "user", "similarity" of
            texts, or None where nothing does.
        answered_with: share of the pictures with the concept and without the target's own object that are answered with
            the target, for an intervention of all pictures; None for a target that is no class.
        answered_without: the same for the median value of the group, or without the intervention.
        accuracy_with: share of the pictures of the target's own object that are answered with the target, with the
            concept; None where no picture asks for the object.
        accuracy_without: the same for the median value of the group.
        tipping_point: bias of the generator, in units of the effect, that would overturn the finding; None without one.
        pictures: number of pictures that ask for the concept.
        points_low: lower end of the interval of ``answered_with - answered_without``; None where it is not known.
        points_high: upper end.
        own_effect: the effect among pictures that ask for the target's own object, None where there are too few.
        own_low: lower end of its interval; None where nothing tells the error, such as one picture of a value.
        own_high: upper end.
        other_effect: the effect among pictures that ask for other objects.
        other_low: lower end of its interval.
        other_high: upper end.
        words_p: probability that the words of a value differ as much in their effects if they act only through what
            they show; None where it is not tested.
        words_disagree: whether they do: the words carry something else, and ``effect`` is the weighted median of all.
    """

    target: str
    concept: str
    effect: Number
    low: Number
    high: Number
    p: Number
    adjusted_p: Number
    finding: bool
    role: str
    asked: Number
    obeyed: Number | None
    declared_by: str | None
    answered_with: Number | None
    answered_without: Number | None
    accuracy_with: Number | None
    accuracy_without: Number | None
    tipping_point: Number | None
    pictures: Count
    points_low: Number | None = None
    points_high: Number | None = None
    own_effect: Number | None = None
    own_low: Number | None = None
    own_high: Number | None = None
    other_effect: Number | None = None
    other_low: Number | None = None
    other_high: Number | None = None
    words_p: Number | None = None
    words_disagree: bool = False

    @property
    def value(self) -> str:
        """The concept without its group."""
        return self.concept.partition(":")[2]


def role_of(name: str, found: int, declared: str | None) -> str:
    """Return the role of a concept; see ``AuditRow``.

    Args:
        name: of the cell, which is the role where nothing is found.
        found: 1 above the minimal effect, -1 below its negative, 0 not found.
        declared: what says that the concept is the target's own, or None.
    """
    if found:
        return "suppresses" if found < 0 else "spurious" if declared is None else "core"
    return name


def outcome_sentence(rows: Sequence[AuditRow], compared: bool = False) -> str:
    """Return how many effects are findings, and how many of the others are not decided, as a sentence.

    Only where every effect is decided does it say that there is none: an effect that is no finding may be a large one.

    Args:
        rows: of an audit; those of placebos do not count.
        compared: whether it is a difference of two audits.
    """
    real = [row for row in rows if not row.concept.startswith(f"{PLACEBO}:")]
    found = sum(row.finding for row in real)
    left = []
    for role, said in _OPEN.items():
        count = sum(row.role == role for row in real)
        if count:
            left.append(f"{count} of {len(real)} effect{'s' * (len(real) > 1)} {'is' if count == 1 else 'are'} {said}")
    if not found and not left:
        if compared:
            return "No effect of the first audit differs from the second's by more than the minimal effect."
        return "No concept has an effect above the minimal one."
    begin = f"{found} finding{'s' * (found > 1)}" if found else "No finding"
    return f"{'; '.join([begin, *left])}."


@dataclass(frozen=True)
class Interaction(Record):
    """What two concepts of different groups do together to one target.

    Attributes:
        target: label of the class, or description of another target.
        concept_a: the first concept.
        concept_b: the second concept.
        effect: the effect of both together that the sum of their own effects does not explain.
        low: lower end of its interval.
        high: upper end.
        adjusted_p: of the test that there is none, adjusted over all pairs.
        kind: "and", "or" or "add".
    """

    target: str
    concept_a: str
    concept_b: str
    effect: Number
    low: Number
    high: Number
    adjusted_p: Number
    kind: str


@dataclass(frozen=True)
class FoundFeature(Record):
    """What tokens that ``explain`` found do to a target in fresh pictures, and what of that the concepts explain.

    Attributes:
        target: label of the class, or description of another target.
        words: of the prefix of the prompt, and the vocabulary words nearest to its tokens.
        effect: of the tokens after captions without the target's own object, on the value of the target.
        low: lower end of its interval, of half the audit's level, because there may be two looks.
        high: upper end.
        unexplained: what of the effect is left without the concepts that the eye sees come and go with the tokens.
        unexplained_low: lower end of its interval; what the eye cannot see is taken off; None without an eye.
        unexplained_high: upper end.
        named: share of the effect that the concepts explain.
        named_low: lower end of its interval; None where it is unbounded.
        named_high: upper end.
        optimism: by how much the search's own pictures had a larger score than pictures of unseen start noise; None
            for a search on another classifier.
        concepts: those with the largest part of the effect, the largest first.
        kind: "named", "unnamed" (it survives JPEG and a shift), "fragile" (it does not), "undecided", or "not
            confirmed" where the effect is not shown to be above the minimal one.
    """

    target: str
    words: list[str]
    effect: Number
    low: Number
    high: Number
    unexplained: Number | None
    unexplained_low: Number | None
    unexplained_high: Number | None
    named: Number | None
    named_low: Number | None
    named_high: Number | None
    optimism: Number | None
    concepts: list[str]
    kind: str

    @property
    def sentence(self) -> str:
        """What the tokens do, in words."""
        words = f"tokens near {' '.join(self.words)}" if self.words else "tokens"
        effect, interval = interval_texts(self.effect, self.low, self.high, digits=1, signs="")
        verb = "raise" if self.effect >= 0 else "change"
        text = f"{words} {verb} {self.target} by {effect} {interval} in fresh pictures"
        if self.named is not None:
            text += f"; the concepts explain {share_text(min(max(self.named, 0), 1))} of it"
        return text + _FEATURES.get(self.kind, "")


@dataclass(frozen=True)
class UnitRow(Record):
    """What asking for a concept does to one hidden feature: a unit of a layer, or a direction among its units.

    Attributes:
        unit: number of the unit, or of the direction in the order that was asked for.
        concept: the one with the largest effect in the first half of the pictures.
        effect: its effect in the second half, in standard deviations of the feature over the pool.
        low: lower end of the interval of ``effect``.
        high: upper end.
        adjusted_p: of the test that the effect does not exceed the minimal effect, adjusted over the features; NaN
            where fewer than 12 pictures of the second half ask for the concept, because nothing is tested there.
        name: such as "unit 3", "PCA 1" or "CAV background:desert".
        finding: whether the second half confirms an effect above the minimal one.
        chosen_effect: the effect in the first half, which is optimistic, because it is the largest of many.
        correlation: of asking for the concept with the feature, in the second half.
        auc: CoSy's probability that a picture with the concept has more of the feature than one without.
        mad: CoSy's difference of the means, in standard deviations without the concept.
        contribution: weight x activation, as the last linear layer takes it, for a class, where one was asked for.
    """

    unit: Count
    concept: str
    effect: Number
    low: Number
    high: Number
    adjusted_p: Number
    name: str = ""
    finding: bool = False
    chosen_effect: Number | None = None
    correlation: Number | None = None
    auc: Number | None = None
    mad: Number | None = None
    contribution: Number | None = None


@dataclass(frozen=True)
class Verdict(Record):
    """What an audit says of one target.

    Attributes:
        kind: "core", "spurious", "both", "conjunction", "either-or", "not elicited", "not drawable", "unnamed", or
            "undecided" where the pictures did not suffice, or nothing is found to raise the target.
        concepts: the concepts that the verdict names, the strongest first.
        sentence: the verdict in words.
        suppressed_by: concepts that lower the target.
        pictures: places in ``Audit.images`` of pictures with the first concept, then of as many without it.
    """

    kind: str
    concepts: list[str]
    sentence: str
    suppressed_by: list[str] = field(default_factory=list)
    pictures: list[Count] = field(default_factory=list)
