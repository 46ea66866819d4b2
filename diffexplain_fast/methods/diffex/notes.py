"""Steps of an attribution that are done already, in a folder: killed anywhere, the same call goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable, Set
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.inversion import Inversion
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.errors import CorruptFileError, describe
from diffexplain_fast.methods.diffex.budget import Budget
from diffexplain_fast.methods.diffex.scene import Noted, Scene
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.runs.shared_units import SharedUnits
from diffexplain_fast.storage import pack_tensors, parse_tensors

_OF_INVERSION = ("samples", "residuals", "outputs")
_VALUES = "values"


class Done(NamedTuple):
    """What a step has found.

    Attributes:
        values: of JSON.
        tensors: by name.
    """

    values: Json
    tensors: dict[str, Tensor]


class Notes:
    """Keeps what steps find, the inversions and drawings that they needed and what they cost.

    Args:
        budget: what may be spent; a step that is read back counts as if it had been run.
        units: the folder; None to keep nothing.
    """

    def __init__(self, budget: Budget, units: SharedUnits | None = None) -> None:
        self._budget, self._units = budget, units

    def step(self, key: JsonObject, scene: Scene | None, run: Callable[[], Done]) -> Done:
        """Return what a step finds: read back where it was run before, otherwise run, and kept.

        Args:
            key: what tells the step apart from all others of the attribution; JSON values.
            scene: the picture, whose new inversions and drawings are kept too; None for a step without one.
            run: the step.

        Raises:
            CorruptFileError: a kept step that cannot be read; names its file, which may be deleted.
            StorageError: a step that cannot be kept; all steps before it are.
        """
        if self._units is None:
            return run()
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
        here: list[str] = []
        known: set[Noted | str] = set() if scene is None else {*scene.inversions, *scene.behind}

        def make(name: str) -> bytes:
            here.append(name)
            return self._made(scene, known, run)

        self._units.complete([name], make)
        try:
            return self._read(name, scene, counted=bool(here))
        except (KeyError, TypeError, ValueError) as error:
            wanted = "a step of an attribution, or no file: it may be deleted"
            raise CorruptFileError(describe(str(self._units.path(name)), wanted, repr(error))) from error

    def _made(self, scene: Scene | None, known: Set[Noted | str], run: Callable[[], Done]) -> bytes:
        models, began = self._budget.models, time.perf_counter()
        rows = models.denoiser_rows
        done = run()
        new = {} if scene is None else {key: one for key, one in scene.inversions.items() if key not in known}
        behind = {} if scene is None else {part: one for part, one in scene.behind.items() if part not in known}
        record = {
            "found": done.values,
            "rows": models.denoiser_rows - rows,
            "seconds": time.perf_counter() - began,
            "inversions": [list(key) for key in new],
            "behind": list(behind),
        }
        tensors = {f"found.{name}": value for name, value in done.tensors.items()}
        tensors |= {f"behind.{part}": picture for part, picture in behind.items()}
        for i, one in enumerate(new.values()):
            # Inversions of the same noise share what storage would refuse to write twice.
            tensors |= {f"inversion.{i}.{part}": getattr(one, part).clone() for part in _OF_INVERSION}
        written = json.dumps(record).encode()
        tensors[_VALUES] = torch.frombuffer(bytearray(written), dtype=torch.uint8)
        return pack_tensors({name: value.detach().cpu().contiguous() for name, value in tensors.items()})

    def _read(self, name: str, scene: Scene | None, counted: bool) -> Done:
        assert self._units is not None
        models, path = self._budget.models, self._units.path(name)
        tensors = {
            key: value.to(models.pipeline.device) for key, value in parse_tensors(self._units.read(name), path).items()
        }
        record = json.loads(bytes(tensors.pop(_VALUES).cpu().numpy()))
        if not counted:
            models.denoiser_rows += record["rows"]
            self._budget.late_by(record["seconds"])
        for i, (caption, steps, seed, guidance) in enumerate(record["inversions"]):
            if scene is not None:
                table = ancestral_steps(models.pipeline.scheduler, steps)
                parts = {part: tensors[f"inversion.{i}.{part}"] for part in _OF_INVERSION}
                noted = (caption, steps, seed, tuple(guidance))
                scene.inversions[noted] = Inversion(table, caption=caption, guidance=tuple(guidance), **parts)
        if scene is not None:
            scene.behind.update({part: tensors[f"behind.{part}"] for part in record["behind"]})
        found = {key.removeprefix("found."): value for key, value in tensors.items() if key.startswith("found.")}
        return Done(record["found"], found)
