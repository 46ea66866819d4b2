"""The agreement of an audit's hidden features with what workers said of them for Salient ImageNet."""

from collections.abc import Mapping

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.evidence.salient import Judgement
from diffexplain_fast.methods.discovery.own import declared_by
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.results.salient import CORE, SPURIOUS, UNDECIDED, Agreed, SalientAgreement, SalientPair
from diffexplain_fast.stats.clustered import clustered_rate

Judgements = Mapping[tuple[int, int], Judgement]


def judged_units(judgements: Judgements, readout: Readout, units: int) -> list[int]:
    """Return the units that workers judged for the targets of an audit.

    Args:
        judgements: by class and unit.
        readout: the targets.
        units: how many units the layer has.

    Raises:
        ValueError: no target is judged, or a unit that the layer does not have.
    """
    found = sorted({unit for index, unit in judgements if index in readout.classes})
    if not found:
        known = sorted({index for index, _ in judgements})
        wanted = "a table about the targets of the audit, by their indices"
        raise wrong_value("salient", wanted, f"classes {known[0]} to {known[-1]}")
    beyond = [unit for unit in found if not 0 <= unit < units]
    if beyond:
        raise wrong_value("salient", f"features from 0 to {units - 1}, the units of the layer", beyond[-1])
    return found


def agreement_with(
    judgements: Judgements, rows: Mapping[int, UnitRow], readout: Readout, concepts: Concepts
) -> SalientAgreement:
    """Return how the strongest concepts of units agree with the workers.

    Args:
        judgements: by class and unit.
        rows: unit to its row.
        readout: the targets.
        concepts: of the audit; what is declared a class's own is core.
    """
    pairs, classes = [], []
    for (index, unit), judgement in sorted(judgements.items()):
        if index in readout.classes:
            place, row = readout.classes.index(index), rows[unit]
            own = declared_by(concepts, readout.labels[place], concepts.names.index(row.concept)) is not None
            ours = UNDECIDED if not row.finding else CORE if own else SPURIOUS
            theirs = SPURIOUS if judgement.spurious else CORE
            name = readout.names[place]
            pairs.append(SalientPair(name, unit, row.concept, ours, theirs, judgement.votes, judgement.workers))
            classes.append(index)
    decided = np.array([pair.ours != UNDECIDED for pair in pairs])
    spurious = np.array([pair.theirs == SPURIOUS for pair in pairs])
    same, of_class = np.array([pair.ours == pair.theirs for pair in pairs]), np.array(classes)
    share = float(spurious[decided].mean()) if decided.any() else None
    return SalientAgreement(
        pairs=pairs,
        all=_agreed(same[decided], of_class[decided]),
        spurious=_agreed(same[decided & spurious], of_class[decided & spurious]),
        core=_agreed(same[decided & ~spurious], of_class[decided & ~spurious]),
        usual=None if share is None else max(share, 1 - share),
    )


def _agreed(same: np.ndarray, classes: np.ndarray) -> Agreed:
    if not len(same):
        return Agreed(None, None, None, 0)
    low, high = clustered_rate(same, classes)
    return Agreed(float(same.mean()), low, high, len(same))
