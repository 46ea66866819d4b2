"""A job that was drawn, checked and measured; and how it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.answers import Said
from diffexplain_fast.methods.diffex.notes import Done
from diffexplain_fast.methods.diffex.scene import Job, Pictures
from diffexplain_fast.methods.diffex.verdict import Verdict

_NUMBERS = ("effect", "points", "probability", "hit", "name", "editor", "probability_before", "hit_before")


@dataclass
class Trial:
    """A job that was drawn, checked and measured.

    Attributes:
        job: what was changed.
        pixels: the edited picture [3, H, W].
        mask: where it may differ [1, H, W].
        verdict: of the verifier.
        effect: value of the edited picture minus that of the picture, both through the autoencoder inside the mask.
        points: change of the class's probability in percent.
        probability: of the target class in the edited picture.
        hit: whether the edited picture is recognised as the target class.
        name: what the classifier calls it.
        editor: of the try that counts.
        probability_before: of the target class in the baseline: the picture through the autoencoder inside the mask.
        hit_before: whether the baseline is recognised as the target class.
    """

    job: Job
    pixels: Tensor
    mask: Tensor
    verdict: Verdict
    effect: float
    points: float
    probability: float
    hit: bool
    name: str
    editor: str
    probability_before: float
    hit_before: bool

    @property
    def verified(self) -> bool:
        """Whether another model than the classifier sees what was asked for."""
        return self.verdict.appeared

    @property
    def flipped(self) -> bool | None:
        """Whether the decision leaves the target; None where the baseline has left it, so that nobody can tell."""
        return not self.hit if self.hit_before else None

    @property
    def failed(self) -> bool:
        """Whether it is worth another try: not what was asked for, or of a single concept something else too."""
        return not self.verified or (len(self.job.concepts) == 1 and bool(self.verdict.changed))

    @property
    def rank(self) -> tuple[bool, int]:
        """How good the edit is, the best largest: whether it was verified, and less the more else it changed."""
        return self.verified, -len(self.verdict.changed)


def measured(
    jobs: Sequence[Job], drawn: Pictures, verdicts: Sequence[Verdict], before: Said, after: Said
) -> list[Trial]:
    """Return the trials of jobs.

    Args:
        jobs: any number.
        drawn: a picture of each.
        verdicts: of the verifier.
        before: answers to the baselines.
        after: answers to the edited pictures.
    """
    numbers = zip(
        (after.value - before.value).tolist(),
        (100 * (after.probability - before.probability)).tolist(),
        after.probability.tolist(),
        after.hit.tolist(),
        after.names,
        drawn.editors,
        before.probability.tolist(),
        before.hit.tolist(),
        strict=True,
    )
    parts = zip(jobs, drawn.pixels, drawn.masks, verdicts, numbers, strict=True)
    return [Trial(job, pixels, mask, verdict, *some) for job, pixels, mask, verdict, some in parts]


def packed(trials: Sequence[Trial]) -> Done:
    """Return trials, at least one, as a step keeps them."""
    values = [
        {name: getattr(trial, name) for name in _NUMBERS}
        | {"appeared": trial.verdict.appeared, "changed": list(trial.verdict.changed)}
        for trial in trials
    ]
    tensors = {
        "pixels": torch.stack([trial.pixels for trial in trials]),
        "masks": torch.stack([trial.mask for trial in trials]),
    }
    return Done(values, tensors)


def unpacked(done: Done, jobs: Sequence[Job]) -> list[Trial]:
    """Return the trials of jobs; see ``packed``."""
    rows = zip(jobs, done.values, done.tensors["pixels"], done.tensors["masks"], strict=True)
    return [
        Trial(
            job=job,
            pixels=pixels,
            mask=mask,
            verdict=Verdict(values["appeared"], tuple(values["changed"])),
            **{name: values[name] for name in _NUMBERS},
        )
        for job, values, pixels, mask in rows
    ]
