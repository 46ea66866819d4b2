"""What a verifier says of an edit."""

from collections.abc import Mapping
from typing import NamedTuple

from diffexplain_fast.methods.diffex.scene import Job, Scene, same_word


class Verdict(NamedTuple):
    """What a verifier says of an edit.

    Attributes:
        appeared: whether everything that was asked for is there.
        changed: other categories that changed, of those that the verifier reads right before the edit.
    """

    appeared: bool
    changed: tuple[str, ...] = ()


def verdict_of(
    scene: Scene,
    job: Job,
    wanted: Mapping[str, str],
    before: Mapping[str, str | None],
    after: Mapping[str, str | None],
) -> Verdict:
    """Return the verdict on an edit.

    What a verifier misreads in the picture itself says nothing of an edit, which keeps it.

    Args:
        scene: the picture.
        job: what was to change.
        wanted: slot to word, of the edit's caption.
        before: slot to the word that the verifier sees in the picture; None for no word.
        after: the same of the edited picture.
    """
    appeared = all(same_word(after.get(name), word) for name, word in job.changes.items())
    others = [name for name in after if name in wanted and name not in job.changes]
    right = [name for name in others if same_word(before.get(name), scene.said.get(name))]
    return Verdict(appeared, tuple(name for name in right if not same_word(after[name], wanted[name])))
