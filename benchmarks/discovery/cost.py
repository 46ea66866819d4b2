"""CPU seconds of an audit's context table, on one thread: ``python -m benchmarks.discovery.cost``.

Every round draws a new pool with the usual sampler and one with the sampler of four steps, and asks a classifier of
eight outputs and one of a thousand about the kept pictures of the first, by turns. The thousand outputs are the eight
and random mixtures of them. The pictures do not depend on the classifier, so the table of a thousand outputs from new
pictures costs as much as that of eight, and the difference on kept pictures. Pictures of own objects are not drawn.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from benchmarks.discovery.figures import Row
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.profile.roofline import product_rate
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld.store import FOUR_STEPS

RESULT = Path(__file__).parent.parent / "results" / "discovery_cost.json"
OUTPUTS = 1000


class Round(NamedTuple):
    """CPU seconds of one round.

    Attributes:
        new: table of eight outputs from new pictures.
        kept: the same from the same pictures, before and after ``many``.
        many: table of a thousand outputs from them.
        four: table of eight outputs from new pictures of the sampler of four steps.
        four_kept: the same from the same pictures.
        speed: GFLOP/s of a matrix product, before and after the round: what the machine had to give.
    """

    new: float
    kept: tuple[float, float]
    many: float
    four: float
    four_kept: float
    speed: tuple[float, float]


class Mixtures(nn.Module):
    """The outputs of a classifier, and then random mixtures of them.

    Args:
        classifier: of any number of classes.
        outputs: how many there are in all.
    """

    def __init__(self, classifier: dx.Classifier, outputs: int) -> None:
        super().__init__()
        self._classifier, own = classifier, len(classifier.labels or ())
        random = torch.randn(outputs - own, own, generator=torch.Generator().manual_seed(0)) / own**0.5
        self.mix = nn.Parameter(torch.cat([torch.eye(own), random]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, outputs] of pixels [B, 3, H, W] in [0, 1]."""
        return self._classifier(pixels) @ self.mix.T


def with_outputs(classifier: dx.Classifier, outputs: int) -> dx.Classifier:
    """Return a classifier with more outputs, which are mixtures of its own."""
    own = list(classifier.labels or ())
    return dx.Classifier(
        Mixtures(classifier, outputs), labels=[*own, *(f"mixture {i}" for i in range(len(own), outputs))]
    )


def table(pipeline: str, classifier: dx.Classifier, pool: Path, pictures: int) -> float:
    """Return the CPU seconds of an audit that draws what is missing in a pool."""
    with dx.Explainer(pipeline, classifier) as explainer:
        began = time.process_time()
        explainer.audit(pictures=pictures, pool=pool, own_pictures=0)
        return time.process_time() - began


def speed() -> float:
    """Return GFLOP/s of a large matrix product on one thread."""
    return 1e-9 * product_rate(torch.device("cpu"), torch.float32)


def measured(pictures: int) -> Round:
    """Return one round, in folders that are removed afterwards."""
    eight = dx.Classifier.from_pretrained("tinyworld/clean")
    many = with_outputs(eight, OUTPUTS)
    with tempfile.TemporaryDirectory() as folder:
        pool, other, before = Path(folder) / "eight", Path(folder) / "four", speed()
        new = table("tinyworld", eight, pool, pictures)
        kept = table("tinyworld", eight, pool, pictures)
        thousand = table("tinyworld", many, pool, pictures)
        again = table("tinyworld", eight, pool, pictures)
        four, four_kept = (table(FOUR_STEPS, eight, other, pictures) for _ in range(2))
        return Round(new, (kept, again), thousand, four, four_kept, (before, speed()))


def summary(rounds: Sequence[Round]) -> Row:
    """Return medians over the rounds, and the ratios of a thousand outputs over eight, of each round by itself."""
    more = [one.many - mean(one.kept) for one in rounds]
    return {
        "eight steps, new pictures": median(one.new for one in rounds),
        "eight steps, kept pictures": median(mean(one.kept) for one in rounds),
        "four steps, new pictures": median(one.four for one in rounds),
        "four steps, kept pictures": median(one.four_kept for one in rounds),
        f"{OUTPUTS} outputs over 8, new pictures": median(
            1 + extra / one.new for one, extra in zip(rounds, more, strict=True)
        ),
        f"{OUTPUTS} outputs over 8, new pictures of four steps": median(
            1 + extra / one.four for one, extra in zip(rounds, more, strict=True)
        ),
        f"{OUTPUTS} outputs over 8, kept pictures": median(one.many / mean(one.kept) for one in rounds),
        "matrix product, GFLOP/s": median(mean(one.speed) for one in rounds),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rounds = []
    for _ in range(given.rounds):
        rounds.append(measured(given.pictures))
        print(rounds[-1], flush=True)
    result = {"pictures": given.pictures, "load": os.getloadavg(), "rounds": [one._asdict() for one in rounds]}
    figures = summary(rounds)
    write_json_atomic(given.out, result | figures | {"versions": versions(), "device": device_record()})
    print(figures)


if __name__ == "__main__":
    main()
