"""All trials of one picture, and the placebos beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffexplain_fast.methods.diffex.error_of_edit import Null
from diffexplain_fast.methods.diffex.nulls import Placebos, null_of_picture, placebos_of
from diffexplain_fast.methods.diffex.pairs import Names
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.methods.diffex.telling import Telling
from diffexplain_fast.methods.diffex.trial import Trial
from diffexplain_fast.methods.diffex.trials import Lab


@dataclass
class Work:
    """One picture's trials by names of concepts, what a screening found, and the null of all."""

    scene: Scene
    trials: dict[Names, list[Trial]] = field(default_factory=dict)
    screened: dict[str, float] = field(default_factory=dict)
    null: Null = field(default_factory=Null)

    @property
    def all(self) -> list[Trial]:
        """All trials."""
        return [trial for some in self.trials.values() for trial in some]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were drawn."""
        return [trials[0].job for trials in self.trials.values()]

    @property
    def each_job(self) -> list[Job]:
        """The job of each trial."""
        return [trial.job for trial in self.all]

    def keep(self, trials: Sequence[Trial]) -> None:
        """Add trials."""
        for trial in trials:
            self.trials.setdefault(trial.job.names, []).append(trial)


def measure_nulls(lab: Lab, work: Sequence[Work], telling: Telling, same: Sequence[int] = ()) -> Placebos:
    """Give every picture its null, and return the placebos of all of them: of equal ones those of one.

    Args:
        lab: draws and measures.
        work: of each picture.
        telling: tells how far it is.
        same: of each picture the first one that is equal to it; () where no two are equal.
    """
    placebos: Placebos = {}
    done: set[int] = set()
    for one in telling.each("placebo", work):
        # Redraws first: rows are kept back for them, and placebos may take what is left.
        one.null = null_of_picture(lab, one.scene, one.all)
        one.null.unknown = one.null.unknown or bool(one.screened and not one.trials)
        picture = same[one.scene.index] if same else one.scene.index
        for editor, values in ({} if picture in done else placebos_of(lab, one.scene, one.all)).items():
            placebos.setdefault(editor, []).extend(values)
            done.add(picture)
    for one in work:
        one.null.placebos = placebos
    return placebos
