"""What counts as one logit on the scale of each target, so that errors in logits hold for targets of any unit."""

from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.cells import Judged
from diffexplain_fast.stats.generator import GeneratorError, widened
from diffexplain_fast.stats.unit_scores import deviation


def usual_spread(values: np.ndarray, logits: np.ndarray) -> float:
    """Return the median standard deviation of the targets that are in logits, each in its own unit; 1 without any.

    Args:
        values: what classifiers say of pictures, float [pictures, targets].
        logits: what one logit is in the unit of each target, [targets]; NaN for targets that are not in logits.
    """
    known = np.isfinite(logits) & (logits > 0)
    return float(np.median(deviation(values[:, known]) / logits[known])) if known.any() else 1.0


def target_units(readout: Readout, values: np.ndarray, spread: float) -> np.ndarray:
    """Return what counts as one logit in the unit of every target, float [targets], 0 or above.

    A class has its own logits. Outputs of a regression, neurons and functions have units of their own: there one logit
    is the share of the target's standard deviation that it is of the usual standard deviation of logits. A target in
    another unit therefore has the same errors in that unit.

    Args:
        readout: the targets.
        values: what is said of the pictures, float [pictures, targets].
        spread: the usual standard deviation of logits over these pictures, in logits.
    """
    logits = readout.logits
    return np.where(np.isnan(logits), deviation(values) / (spread if spread > 0 else 1.0), logits)


def with_generator_error(
    judged: Judged,
    plan: Plan,
    concepts: Concepts,
    errors: dict[str, GeneratorError],
    units: np.ndarray | float = 1.0,
) -> Judged:
    """Return the cells with intervals that hold the generator's error too; what is found stays as it is.

    The errors are in logits; for a target in another unit they are taken in what counts there as one logit.

    Args:
        judged: the cells.
        plan: the captions.
        concepts: what was asked for.
        errors: of the generator in some groups, in logits.
        units: what counts as one logit in the unit of every target, [targets].
    """
    groups = [name.partition(":")[0] for name in concepts.names]
    none = GeneratorError(0.0, 0.0)
    rows = zip(groups, judged.estimate, strict=True)
    full = np.zeros(judged.effects.estimate.shape)
    full[plan.asked.places] = [errors.get(group, none).deviation(row, units) for group, row in rows]
    low, high = judged.interval_of(widened(judged.effects, full), plan.asked.places)
    # An interval of showing may be wider than that, or unbounded.
    return replace(judged, low=np.minimum(low, judged.low), high=np.maximum(high, judged.high))
