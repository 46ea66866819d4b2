"""What an audit consists of: a row for every target and concept, interactions, and a verdict for every target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.given_files import given_path
from diffexplain_fast.records import JsonObject, as_json
from diffexplain_fast.results.audit_difference import Side, asking_only, row_differences, strictest
from diffexplain_fast.results.audit_files import read_audit, write_audit
from diffexplain_fast.results.audit_rows import AuditRow, FoundFeature, Interaction, UnitRow, Verdict, outcome_sentence
from diffexplain_fast.results.decision import Decision, decide
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.photographs import Photographs
from diffexplain_fast.results.salient import SalientAgreement

if TYPE_CHECKING:
    from pandas import DataFrame

    from diffexplain_fast.results.attribution import Attribution


class Hidden(Protocol):
    """Measures hidden features of the classifier; see ``Audit.units`` and ``Audit.directions``."""

    def units(
        self, layer: str, top: int, units: Sequence[int] | None, target: str | None, minimal_effect: float
    ) -> list[UnitRow]: ...

    def directions(
        self, layer: str, directions: int | Sequence[str] | Mapping[str, Sequence[float]], minimal_effect: float
    ) -> list[UnitRow]: ...

    def salient(self, path: str | Path, layer: str, minimal_effect: float) -> SalientAgreement: ...


@dataclass(eq=False, repr=False)
class Audit(Drawn):
    """What a classifier answers to, measured by a randomised trial through the prompt.

    Attributes:
        classifier: its name.
        rows: one for every target and concept.
        interactions: pairs of concepts with an effect of their own.
        verdicts: target to its verdict.
        settings: everything needed to repeat it; kept as JSON values.
        images: evidence pictures; see ``Verdict.pictures``.
        found: what the tokens of explanations do in fresh pictures; empty without ``explain``.
        outcomes: arrays of the trial, with which ``diff`` compares picture by picture: "design" [pictures, columns],
            "levels", "values" [pictures, targets], "hits" [pictures, targets] for classes.
        photographs: what the user's own pictures say; None without any.

    Raises:
        TypeError: settings with a value that JSON has not.
    """

    classifier: str
    rows: list[AuditRow]
    interactions: list[Interaction]
    verdicts: dict[str, Verdict]
    settings: JsonObject
    images: list[Image.Image] = field(default_factory=list)
    outcomes: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    found: list[FoundFeature] = field(default_factory=list)
    photographs: Photographs | None = None
    _hidden: Hidden | None = field(default=None, repr=False)
    _editing: "Callable[..., Attribution] | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.settings = as_json(self.settings, "settings")

    @property
    def findings(self) -> list[AuditRow]:
        """Rows whose effect exceeds the minimal effect, the strongest first."""
        return sorted((row for row in self.rows if row.finding), key=lambda row: -abs(row.effect))

    @property
    def outcome(self) -> str:
        """How many findings there are, and how many other effects are not decided, as a sentence."""
        return outcome_sentence(self.rows, "difference" in self.settings)

    @property
    def outcome_without_verdict(self) -> str:
        """The same where a target has no verdict, such as those of a difference; "" where all have one."""
        return "" if self.rows and all(row.target in self.verdicts for row in self.rows) else self.outcome

    def to_dataframe(self) -> "DataFrame":
        """Return the rows as a table of pandas.

        Raises:
            ImportError: pandas is not installed; names the extra.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ImportError('to_dataframe needs pandas: pip install "diffexplain-fast[pandas]"') from error
        return DataFrame([asdict(row) for row in self.rows], columns=AuditRow.names())

    def units(
        self,
        layer: str,
        top: int = 20,
        *,
        units: Sequence[int] | None = None,
        target: str | None = None,
        minimal_effect: float = 0.25,
    ) -> list[UnitRow]:
        """Return which concept the units of a layer of the classifier answer to.

        Half of the pictures chooses the concept of every unit, the other half measures its effect.

        Args:
            layer: dotted name of the layer; a unit's answer is its mean over the positions of the layer's map.
            top: how many rows at most, the strongest first.
            units: numbers of units, which are reported in this order; None for the strongest.
            target: label of a class: the units with the largest weight x activation for it, over the pictures that are
                answered with it. The layer is the one whose units the last linear layer reads one by one, as they are
                or after pooling, an activation or dropout, whose results then are the activation. None for no class.
            minimal_effect: in standard deviations of a unit over the pool, at least 0.

        Returns:
            A row for each unit and its strongest concept; effects are in standard deviations of the unit.

        Raises:
            ValueError: an audit that was loaded, which has no classifier; one that drew no pictures, which has no
                pool; a layer, unit or class that does not exist; a layer that the last linear layer does not read, with
                a target; too few pictures for two halves.
        """
        if isinstance(top, bool) or not isinstance(top, int):
            raise wrong_type("top", "a whole number", top)
        if top < 1:
            raise wrong_value("top", "at least 1", top)
        return self._features("units").units(layer, top, units, target, minimal_effect)

    def directions(
        self,
        layer: str,
        directions: int | Sequence[str] | Mapping[str, Sequence[float]],
        *,
        minimal_effect: float = 0.25,
    ) -> list[UnitRow]:
        """Return which concept directions in the space of a layer's units answer to; see ``units``.

        Args:
            layer: dotted name of the layer.
            directions: a number of principal components; names of concepts, whose concept activation vectors (CAV) are
                fitted to the first half of the pictures; or a dict from names to vectors, one number for each unit.
            minimal_effect: in standard deviations of a direction over the pool, at least 0.

        Raises:
            ValueError: as ``units``; a vector of another length.
        """
        return self._features("directions").directions(layer, directions, minimal_effect)

    def salient(self, path: str | Path, layer: str, *, minimal_effect: float = 0.25) -> SalientAgreement:
        """Return how units agree with what workers said of them for Salient ImageNet: core or spurious.

        A unit is core for a class here where its strongest concept is the class's own, spurious where that is another
        one. The table is about the last layer before the head of one robust ResNet-50, and it is opinion about heat
        maps, not truth.

        Args:
            path: the file ``discover_spurious_features.csv`` of Salient ImageNet.
            layer: dotted name of the layer whose units the table numbers.
            minimal_effect: in standard deviations of a unit over the pool, at least 0.

        Returns:
            Every pair of class and unit, and the share that agrees with its interval.

        Raises:
            FileNotFoundError: there is no file.
            ValueError: as ``units``; another table, or one of other classes or units.

        Source: Salient ImageNet (ICLR 2022); see ``evidence.salient``.
        """
        return self._features("salient").salient(path, layer, minimal_effect)

    def attribute(self, images: object, target: str, **options: object) -> "Attribution":
        """Edit what the audit has found of a target on pictures of the user's own; see ``Explainer.attribute``.

        Args:
            images: PIL images of any size and mode, or pixels [B, 3, H, W] in [0, 1].
            target: one of the audit's targets, of which something was found.
            **options: of ``Explainer.attribute`` beside the taxonomy, which is this audit.

        Returns:
            Effects on these pictures; its ``audited`` says how they agree with the audit.

        Raises:
            TypeError: see ``Explainer.attribute``.
            ValueError: the same; an audit without findings of the target; one that was loaded, or is a difference: give
                that to ``Explainer.attribute`` as ``taxonomy``.
        """
        if self._editing is None:
            wanted = "an audit of this session (of another one: explainer.attribute(images, target, taxonomy=audit))"
            raise wrong_value("attribute", wanted, "a loaded audit, or a difference of two")
        return self._editing(images, target, self, **options)

    def decide(self, conditions: str | Sequence[str]) -> list[Decision]:
        """Return whether conditions such as "spurious>0.5" are true; a true one is one that the audit fails.

        Args:
            conditions: one or several, each a measure ("false_answers", "spurious", "findings", "worst_group" or
                "unexplained"), "<" or ">", and a number; see ``results.decision.decide``.

        Returns:
            A decision for each, with the value and a sentence. Findings of an audit with ``control="family"`` are all
            true at the level of the audit, so that a clean classifier fails seldom.

        Raises:
            TypeError: no text.
            ValueError: a text of another form, an unknown measure, or one that this audit does not have; see ``diff``.
        """
        asked = self.settings.get("asking_only", ())
        return decide(conditions, self.rows, self.photographs, "difference" in self.settings, asked)

    def _features(self, argument: str) -> Hidden:
        if self._hidden is None:
            drew_none = self.settings.get("pictures") == 0
            got = "an audit that drew no pictures" if drew_none else "a loaded audit, or a difference of two"
            raise wrong_value(argument, "an audit of this session, with its classifier and its pool", got)
        return self._hidden

    def diff(self, other: "Audit") -> "Audit":
        """Return how this audit differs from another one, such as that of a later checkpoint.

        Args:
            other: an audit of the same targets and concepts; rows that only one of them has are left out.

        Returns:
            An audit whose rows hold the differences, this one minus the other: paired picture by picture where both
            used the same pool, else as of independent samples. Effects are those that the rows have: of *showing* a
            value, with the values as instruments, in groups in which an audit reports such effects, else of *asking*.
            Without what the pictures show (audits of earlier releases, by different eyes or one without an eye, and
            words that disagree) they are of asking, which are smaller the less a word is obeyed: such groups are in
            ``settings["asking_only"]``, the page names them, and ``decide`` answers neither "spurious" nor "findings",
            whose limits are meant for effects of showing. The effects are those of the pictures that serve every
            class, without the ones of own objects beside them, which the two audits may have of other classes. Findings
            are decided by the larger minimal effect, smaller level and stronger control, which ``settings`` has.

        Raises:
            TypeError: ``other`` is not an audit.
            ValueError: the two share no row, or their effects have other units.
        """
        if not isinstance(other, Audit):
            raise wrong_type("other", "an Audit", other)
        ours, theirs = (Side(one.rows, one.outcomes, one.settings) for one in (self, other))
        rows = row_differences(ours, theirs)
        settings = strictest(ours, theirs) | {"difference": [self.settings, other.settings]}
        settings["asking_only"] = asking_only(ours, theirs)
        return Audit(f"{self.classifier} - {other.classifier}", rows, [], {}, settings)

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder, which appears whole or not at all.

        Args:
            folder: a new or empty folder, or a saved result, which is replaced; or a link to one.

        Returns:
            The folder.

        Raises:
            TypeError: a folder that is no path; settings that were changed to hold a value that JSON has not.
            ValueError: the folder holds anything else, or is a link to nothing.
            StorageError: no space or no permission; an audit saved there before is intact.
        """
        record = {
            "classifier": self.classifier,
            "rows": [asdict(row) for row in self.rows],
            "interactions": [asdict(row) for row in self.interactions],
            "verdicts": {target: asdict(verdict) for target, verdict in self.verdicts.items()},
            "found": [asdict(one) for one in self.found],
            "settings": self.settings,
            "photographs": None if self.photographs is None else asdict(self.photographs),
        }
        return write_audit(given_path("folder", folder), record, self.images, self.outcomes)

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """Read a saved audit; runs no code from it and reads nothing outside it.

        Args:
            folder: what ``save`` wrote.

        Returns:
            The audit.

        Raises:
            TypeError: a folder that is no path.
            CorruptFileError: a file is missing, damaged, or of another structure; names it.
            UnsafeFileError: a recorded path leaves the folder.
        """
        return cls(**read_audit(given_path("folder", folder)))
