"""What edits of semantics do to a classifier's answer: effects, interactions and counterfactuals of given pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from PIL import Image

from diffexplain_fast.errors import describe, unknown_name, wrong_type, wrong_value
from diffexplain_fast.given_files import given_path
from diffexplain_fast.records import JsonObject
from diffexplain_fast.result_folder import write_folder
from diffexplain_fast.results.agreement import AuditAgreement, agreement_of, levels_of
from diffexplain_fast.results.attribution_files import as_record, read_files, write_files
from diffexplain_fast.results.audit_rows import AuditRow
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.effects import Counterfactual, Edit, Effect, Flip, Interaction, Row
from diffexplain_fast.results.flips import flips_of
from diffexplain_fast.results.told_apart import audit_of_another
from diffexplain_fast.results.unmeasured import judged_of, left_out_of, unmeasured_of
from diffexplain_fast.targets import whole_number
from diffexplain_fast.taxonomy import Taxonomy

if TYPE_CHECKING:
    import pandas

_LEFT_OUT = ("budget_used_up", "captions_too_long", "captions_cannot_say")
"""Settings that say that concepts were left out which a picture does not show."""


class Audited(Protocol):
    """What of an audit is read here; see ``results.audit.Audit``."""

    @property
    def rows(self) -> Sequence[AuditRow]: ...
    @property
    def findings(self) -> Sequence[AuditRow]: ...


@dataclass(eq=False, repr=False)
class Attribution(Drawn):
    """What semantics do to a classifier's answer on given pictures.

    Attributes:
        target: description of the target.
        label: name of the target class, None without one.
        images: the pictures, as the pipeline sees them.
        captions: of the pictures, as edits used them.
        taxonomy: the concepts.
        rows: one for each picture and concept that the picture does not show already and that was measured: what a
            budget left out, what does not fit into the text encoder and what no caption can say has none.
        effects: over all pictures, the largest first; concepts that were only screened come last.
        interactions: of pairs that were edited together, the largest first; not of those that only the search for a
            counterfactual drew, because what they do has decided that. These are among ``edits``.
        counterfactuals: for each picture one, or None where the classifier does not see the target in it, or where no
            verified edit of it can tell, see ``Edit.flipped``.
        placebos: effects of edits that say the same again, by editor; empty where none was made, see ``unmeasured``.
        denoiser_rows: rows that the denoiser ran for all this.
        settings: what is needed to repeat it; JSON values.
        found: all edited pictures by number of the picture; numbers of pictures count from 0, and from 1 in what is
            read: the summary of the command, the page and warnings.
        errors: what the tools do to the score where nothing is to change, from which the intervals of single pictures
            come: "redraws" of regions with the picture's own words, "autoencoder" of the same regions through it.
        recognised: numbers of the pictures that the classifier recognises as the target class; None in an attribution
            that was saved by a version that did not keep it.
        gradcam: Grad-CAM of each picture, float32 [B, H, W] from 0 to 1, None where it was not asked for.
        audited: how the edits agree with the audit that was given as taxonomy, see ``agreement``; None where none was,
            where the two have no concept in common, or where it is not of this classifier, see ``not_compared``.
        shown: of each picture the names of the concepts that its caption says already, so that nothing is to be edited;
            None in an attribution that was saved by a version that did not keep it.
    """

    target: str
    label: str | None
    images: list[Image.Image]
    captions: list[str]
    taxonomy: Taxonomy
    rows: list[Row]
    effects: list[Effect]
    interactions: list[Interaction]
    counterfactuals: list[Counterfactual | None]
    placebos: dict[str, list[float]]
    denoiser_rows: int
    settings: JsonObject
    found: dict[int, list[Edit]]
    errors: dict[str, list[float]] = field(default_factory=dict)
    gradcam: np.ndarray | None = None
    recognised: list[int] | None = None
    audited: AuditAgreement | None = None
    shown: list[list[str]] | None = None

    @property
    def unmeasured(self) -> str:
        """What of ``errors``, ``placebos`` and edits was not measured, in sentences; "" where nothing is missing.

        The budget may have left out edits and errors, and a score that no redraw moves shows no error. Of many concepts
        most are only screened on a picture. Without placebos, of which ``editor="guide"`` has none, p-values over
        pictures are of Student's test and the errors of edits alone.
        """
        whole = not self.rows and not any(self.settings.get(key) for key in _LEFT_OUT)
        left_out = cast(list[int], self.settings.get("redraws_left_out") or [])
        judged = judged_of(self.found, self.recognised)
        early = left_out_of(self.rows, self.shown, [one.name for one in self.taxonomy.concepts], self.settings)
        more = unmeasured_of(self.rows, self._same(), left_out, any(self.placebos.values()), whole, judged)
        return " ".join(filter(None, [early, more]))

    @property
    def not_compared(self) -> str:
        """Why the audit that was given as taxonomy is not compared with the edits, with both classifiers; else ""."""
        return "" if self.audited is not None else str(self.settings.get("not_compared") or "")

    def edits(self, image: int = 0, concept: str | Sequence[str] | None = None) -> list[Edit]:
        """Return edited pictures.

        Args:
            image: number of the picture, from 0.
            concept: name of a concept, or of several that were changed together; None for all.

        Raises:
            TypeError: ``concept`` of another kind.
            ValueError: no such picture.
            UnknownNameError: no edit of such concepts; the message names the nearest.
        """
        if isinstance(image, bool) or not hasattr(image, "__index__") or image not in range(len(self.images)):
            raise wrong_value("image", f"a number below {len(self.images)}", image)
        edits = self.found.get(image, [])
        if concept is None:
            return list(edits)
        if not isinstance(concept, Iterable) or any(not isinstance(name, str) for name in concept):
            raise wrong_type("concept", "the name of a concept, several of them, or None", concept)
        wanted = {concept} if isinstance(concept, str) else set(concept)
        chosen = [edit for edit in edits if set(edit.concepts) == wanted]
        if not chosen:
            known = dict.fromkeys(" and ".join(edit.concepts) for edit in edits)
            raise unknown_name("concept", " and ".join(sorted(wanted)), known or ["none was edited"])
        return chosen

    def map(self, image: int = 0) -> np.ndarray:
        """Return by how much the target's score falls through the edits of each pixel, float64 [H, W].

        Each edit of one concept spreads the drop of the score, which is minus its effect, over the pixels in proportion
        to their change; the map is the mean over the verified edits, over all edits where none is verified. Its sum is
        therefore the mean drop, and a pixel that no edit changes has 0. It shows where changed semantics lie, not which
        pixels the classifier reads.

        Args:
            image: number of the picture, from 0.

        Raises:
            ValueError: no such picture, or one without an edit.
        """
        single = [edit for edit in self.edits(image) if len(edit.concepts) == 1]
        edits = [edit for edit in single if edit.verified] or single
        if not edits:
            raise wrong_value("image", "a picture with edits", f"{image}, of which nothing was edited")
        picture = np.asarray(self.images[image].convert("RGB"), np.float64)
        total = np.zeros(picture.shape[:2])
        for edit in edits:
            change = np.abs(np.asarray(edit.image.convert("RGB"), np.float64) - picture).sum(2)
            total -= edit.effect * change / max(change.sum(), 1.0)
        return total / len(edits)

    def tree(self) -> list[tuple[tuple[str, ...], float, float, float]]:
        """Return each inner node of the taxonomy with mean, least and largest effect of the concepts below it.

        Concepts that were only screened are left out, and nodes below which no concept was edited.

        Source: DiffEx (CVPR 2025), section 3.2: a parent's effect is the distribution of its children's.
        """
        known = {effect.concept: effect.effect for effect in self.effects if not effect.screened}
        found = []
        for path in self.taxonomy.inner:
            values = [known[concept.name] for concept in self.taxonomy.below(path) if concept.name in known]
            if values:
                found.append((path, fmean(values), min(values), max(values)))
        return found

    def flips(self, top: int = 10) -> list[Flip]:
        """Return which concepts change the decision on the most pictures, one after the other, as StylEx tells it.

        Each concept is edited alone, so that what only several change together is in ``counterfactuals``. It changes
        the decision on a picture where it does so in more than half of its verified edits, and equal pictures are one.
        Edits that cannot tell count nowhere; see ``Edit.flipped``.

        Args:
            top: how many concepts at most, 1 or more.

        Returns:
            Rows of the table; none where the classifier recognises the target in no picture, or nothing was verified.

        Raises:
            TypeError: no whole number.
            ValueError: no concept wanted.

        Source: Lang et al. 2021 (StylEx, arXiv 2104.13369), algorithm 1 and table 3.
        """
        if whole_number("top", top) < 1:
            raise wrong_value("top", "1 or more", top)
        same = self._same()
        recognised = None if self.recognised is None else len({same[i] for i in self.recognised})
        return flips_of(self.found, top, recognised, same)

    def agreement(self, audit: Audited) -> AuditAgreement:
        """Return how the edits agree with what an audit of the same classifier has measured in drawn pictures.

        Both are contrasts over the same values of a group, of pictures that show the target's own object, where the
        audit has a number for these; so give pictures that show it. A difference says that one of the two does not
        measure what it should, or that the pictures are of another kind than the drawn ones.

        Args:
            audit: of this classifier, with rows of this target; two that nothing tells apart may be compared.

        Raises:
            TypeError: something that is no audit.
            UnknownNameError: an audit without this target; the message names the nearest.
            ValueError: an audit of another classifier, or a difference of two; no concept that both have measured.
        """
        if not isinstance(rows := getattr(audit, "rows", None), Sequence) or not hasattr(audit, "findings"):
            raise wrong_type("audit", "an Audit", audit)
        if other := audit_of_another(self.settings, audit):
            raise wrong_value("audit", *other)
        target = self.label or self.target
        audited = [row for row in rows if row.target == target]
        if not audited:
            raise unknown_name("target", target, dict.fromkeys(row.target for row in rows))
        shown = self._missing() if self.shown is None else self.shown
        levels = levels_of(rows, getattr(audit, "settings", {}))
        return agreement_of(self.rows, self._same(), shown, self.taxonomy.concepts, audited, levels)

    def _same(self) -> list[int]:
        """Return of each picture the number of the first one that is equal to it."""
        first: dict[tuple[tuple[int, int], bytes], int] = {}
        pixels = [(image.size, image.convert("RGB").tobytes()) for image in self.images]
        return [first.setdefault(one, i) for i, one in enumerate(pixels)]

    def _missing(self) -> list[list[str]]:
        """Return of each picture the names of concepts without a row, which it shows; none where some were left out."""
        if any(self.settings.get(key) for key in _LEFT_OUT):
            return [[] for _ in self.images]
        edited = {(row.image, row.concept) for row in self.rows}
        names = [concept.name for concept in self.taxonomy.concepts]
        return [[name for name in names if (i, name) not in edited] for i in range(len(self.images))]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return ``rows`` as a table of pandas.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(describe("to_dataframe", "pandas (pip install pandas)", "no such package")) from error
        return pandas.DataFrame([asdict(row) for row in self.rows], columns=list(Row.__dataclass_fields__))

    def to_json(self) -> JsonObject:
        """Return all but the pictures as values of JSON."""
        return as_record(self)

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder, which appears whole or not at all; see ``Explanation.save``.

        Args:
            folder: a new or empty folder, or a saved attribution, which is replaced.

        Returns:
            The folder.

        Raises:
            TypeError: a folder that is no path.
            ValueError: the folder holds anything else than a result.
            StorageError: no space or no permission; what was saved there before is intact.
        """
        return write_folder(given_path("folder", folder), lambda place: write_files(self, place))

    @classmethod
    def load(cls, folder: str | Path) -> "Attribution":
        """Read a saved attribution; runs no code from it.

        Args:
            folder: folder that ``save`` wrote.

        Returns:
            The attribution.

        Raises:
            TypeError: a folder that is no path.
            CorruptFileError: a file is missing, damaged, or of another structure; names it.
        """
        return cls(**cast(dict[str, Any], read_files(given_path("folder", folder))))
