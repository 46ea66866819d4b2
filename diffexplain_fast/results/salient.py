"""How the concepts of hidden features agree with what workers said of the same features for Salient ImageNet."""

from dataclasses import dataclass

from diffexplain_fast.number_texts import share_text
from diffexplain_fast.records import Count, Number
from diffexplain_fast.results.record import Record

CORE, SPURIOUS, UNDECIDED = "core", "spurious", "undecided"


@dataclass(frozen=True)
class SalientPair(Record):
    """One unit and one class of which both say something.

    Attributes:
        target: label of the class.
        unit: number of the unit.
        concept: the strongest concept of the unit, see ``UnitRow``.
        ours: "core" where that is a finding and the class's own concept, "spurious" where it is a finding and another
            one, "undecided" where it is no finding.
        theirs: "core" or "spurious".
        votes: workers who called the feature spurious.
        workers: who were asked.
    """

    target: str
    unit: Count
    concept: str
    ours: str
    theirs: str
    votes: Count
    workers: Count


@dataclass(frozen=True)
class Agreed(Record):
    """A share of pairs with its 95 % interval, in which pairs of one class are not independent.

    Attributes:
        rate: share of the pairs in which both say the same; None without pairs.
        low: lower end of its interval.
        high: upper end.
        pairs: number of the pairs.
    """

    rate: Number | None
    low: Number | None
    high: Number | None
    pairs: Count


@dataclass(frozen=True)
class SalientAgreement(Record):
    """How an audit agrees with the table of Salient ImageNet.

    The table is opinion about heat maps of one robust ResNet-50, not truth.

    Attributes:
        pairs: all of them, also those that are undecided here.
        all: among the pairs that are decided.
        spurious: among those that the workers called spurious.
        core: among those that the workers called core.
        usual: share of the decided pairs in which the workers gave their more frequent answer: who always gives it
            agrees as often.
    """

    pairs: list[SalientPair]
    all: Agreed
    spurious: Agreed
    core: Agreed
    usual: Number | None

    def __repr__(self) -> str:
        return f"SalientAgreement({len(self.pairs)} pairs: {self.sentence})"

    @property
    def sentence(self) -> str:
        """The agreement in words."""
        left = len(self.pairs) - self.all.pairs
        if self.all.rate is None or self.usual is None:
            return f"no pair of class and unit is decided, {left} are undecided"
        rate, low, high = (share_text(one) for one in (self.all.rate, self.all.low, self.all.high))
        agreed = f"{rate} [{low}, {high}] of {self.all.pairs} pairs"
        text = (
            f"agrees with the workers of Salient ImageNet in {agreed}, where their more frequent answer alone does in "
        )
        return f"{text}{share_text(self.usual)}; {left} pairs are undecided"
