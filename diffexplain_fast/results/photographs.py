"""What the user's own pictures say: pasted concepts, agreement with the generator, slices, unexplained answers."""

from dataclasses import dataclass, field

from diffexplain_fast.records import Count, Number
from diffexplain_fast.results.record import Record


@dataclass(frozen=True)
class PastedRow(Record):
    """What pasting one concept into the user's pictures does to one target; the columns are those of ``AuditRow``.

    Attributes:
        target: label of the class, or description of another target.
        concept: "group:value".
        effect: mean over the pictures with the value pasted into them, minus the median over the values of the group.
        low: lower end of its interval, which holds the error of pictures and donors, and the spread of placebos.
        high: upper end.
        p: of the test that the effect does not exceed the minimal effect, in the direction of the estimate.
        adjusted_p: the same, adjusted over all rows and both directions.
        finding: whether the effect exceeds the minimal effect.
        role: as in ``AuditRow``.
        declared_by: as in ``AuditRow``.
        placebo: what pasting the value that a picture has already does, from another picture; None where too few
            pictures have the value.
        pictures: pictures that the value was pasted into.
        donors: pictures that the value was taken from.
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
    declared_by: str | None
    placebo: Number | None
    pictures: Count
    donors: Count


@dataclass(frozen=True)
class Agreement(Record):
    """How the effects of pasting agree with those of the generator, over cells other than a target's own object.

    Attributes:
        cells: pairs of a target and a concept that both have measured.
        correlation: Pearson's r of the effects, None for fewer than three cells.
        slope: of the effect of pasting on the effect of the generator.
        overlap: share of the cells whose two intervals overlap.
    """

    cells: Count
    correlation: Number | None
    slope: Number | None
    overlap: Number | None


@dataclass(frozen=True)
class Explained(Record):
    """Whether the concepts explain which pictures are answered with a target.

    Attributes:
        target: label of the class.
        answered: pictures that are answered with the target.
        auc: how well the concepts tell these pictures from the others, cross-validated.
        least: the value of ``auc`` that 5 % of simulations are below, in which concepts decide nine of ten answers.
        adjusted_p: of the test that concepts decide that many, adjusted over the targets.
        explained: False where the test refutes it: "not explained by any concept".
    """

    target: str
    answered: Count
    auc: Number
    least: Number
    adjusted_p: Number
    explained: bool


@dataclass(frozen=True)
class Slice(Record):
    """The accuracy in the pictures of one label that show one concept, or that do not.

    Attributes:
        label: the true label of the pictures.
        concept: "group:value"; "" for all pictures of the label.
        pictures: how many.
        accuracy: share of them that are answered with their label.
        low: lower end of its Wilson interval.
        high: upper end.
    """

    label: str
    concept: str
    pictures: Count
    accuracy: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class Photographs:
    """What the user's own pictures say.

    Attributes:
        pictures: how many.
        rows: of every target and every concept that could be pasted.
        agreement: with the generator.
        explained: a row for every class that is neither answered almost never nor almost always.
        slices: of every label and concept with enough pictures, the lowest accuracy first; empty without labels.
        groups: of every picture the name of its group for re-training: its label, and whether it shows the concept that
            the label's verdict calls a shortcut, such as "fish, background:desert" and "fish, not background:desert".
            Methods against a shortcut, such as group DRO, take these names; empty without labels.
        notes: what could not be done, in words.
    """

    pictures: Count
    rows: list[PastedRow]
    agreement: Agreement
    explained: list[Explained]
    slices: list[Slice] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        found = sum(row.finding for row in self.rows)
        parts = [f"{self.pictures} pictures", f"{found} findings in {len(self.rows)} rows"]
        parts += [f"{len(self.slices)} slices", f"{len(self.unexplained)} targets unexplained"]
        return f"Photographs({', '.join(parts)})"

    @property
    def worst_group(self) -> Slice | None:
        """The slice of a label and a concept with the lowest accuracy; None without labels."""
        return next((part for part in self.slices if part.concept), None)

    @property
    def unexplained(self) -> list[str]:
        """Targets whose answers no concept explains."""
        return [row.target for row in self.explained if not row.explained]
