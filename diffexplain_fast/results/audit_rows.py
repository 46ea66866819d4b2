"""The rows of an audit: what one concept does to one target, what two do together, and what is said of a target."""

from dataclasses import dataclass, field

from diffexplain_fast.records import Count, Number
from diffexplain_fast.results.record import Record


@dataclass(frozen=True)
class AuditRow(Record):
    """What asking the generator for one concept does to one target.

    Effects are in centred logits (the logit minus the mean over the classes), in log-odds for a sigmoid, in the output
    itself for a regression; they compare a value with the median over the values of its group.

    Attributes:
        target: label of the class, or description of another target.
        concept: "group:value", or "word:value" for a free word.
        effect: estimate, averaged over pictures with and without the target's own object.
        low: lower end of its interval.
        high: upper end.
        p: of the test that the effect does not exceed the minimal effect, in the direction of the estimate.
        adjusted_p: the same, adjusted over all rows and both directions.
        finding: whether the effect exceeds the minimal effect.
        role: "core", "spurious", "suppresses", "none", "small", "undecided" or "not drawable".
        asked: effect of asking for the word; ``effect`` is the same number unless it is corrected for disobeyed words.
        obeyed: share of the pictures that were asked for the concept in which an eye sees it; None without an eye.
        declared_by: what says that the concept is the target's own: "label", "user", "similarity" of
            texts, or None where nothing does.
        answered_with: share of the pictures with the concept and without the target's own object that are answered with
            the target; None for a target that is no class.
        answered_without: the same for the median value of the group.
        accuracy_with: share of the pictures of the target's own object that are answered with the target, with the
            concept; None where no picture asks for the object.
        accuracy_without: the same for the median value of the group.
        tipping_point: bias of the generator, in units of the effect, that would overturn the finding; None without one.
        pictures: number of pictures that ask for the concept.
        points_low: lower end of the interval of ``answered_with - answered_without``.
        points_high: upper end.
        own_effect: the effect among pictures that ask for the target's own object, None where there are too few.
        own_low: lower end of its interval.
        own_high: upper end.
        other_effect: the effect among pictures that ask for other objects.
        other_low: lower end of its interval.
        other_high: upper end.
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

    @property
    def value(self) -> str:
        """The concept without its group."""
        return self.concept.partition(":")[2]


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
class UnitRow(Record):
    """What asking for a concept does to one hidden feature: a unit of a layer, or a direction among its units.

    Attributes:
        unit: number of the unit, or of the direction in the order that was asked for.
        concept: the one with the largest effect in the first half of the pictures.
        effect: its effect in the second half, in standard deviations of the feature over the pool.
        low: lower end of the interval of ``effect``.
        high: upper end.
        adjusted_p: of the test that the effect does not exceed the minimal effect, adjusted over the features.
        name: such as "unit 3", "PCA 1" or "CAV background:desert".
        finding: whether the second half confirms an effect above the minimal one.
        chosen_effect: the effect in the first half, which is optimistic, because it is the largest of many.
        correlation: of asking for the concept with the feature, in the second half.
        auc: CoSy's probability that a picture with the concept has more of the feature than one without.
        mad: CoSy's difference of the means, in standard deviations without the concept.
        contribution: weight x activation of the unit for a class, where a class was asked for.
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
            "undecided" where the pictures did not suffice.
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
