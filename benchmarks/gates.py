"""The gates of the tiny world: ``python -m benchmarks.gates``, on what ships or on a build folder of the recipe.

Generated and decoded pictures are judged by the probe, which shares no training with what it judges; every model is
judged on scenes that no training run has seen. A model that the folder lacks misses its gates.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import ResNetForImageClassification

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.recipe.data import HELD_OUT_SEEDS, Scenes, as_pixels
from diffexplain_fast.recipe.figures import FIGURES, GUIDANCE_SCALE, STEPS, part, scenes_of
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld.store import WEIGHTS
from diffexplain_fast.tinyworld.words import ATTRIBUTES, NOTHING, OBJECTS

RESULT = Path(__file__).parent / "results" / "tinyworld-gates.json"
_LCM_BEHIND = 0.03
_SAID = (*ATTRIBUTES, "size", "place", NOTHING)
Measured = dict[str, dict[str, float]]
"""Name of a model (see ``FIGURES``) to its figures; a model that is not there is left out."""


class Gate(NamedTuple):
    """One gate: a bound, and on which side of it the figure must lie."""

    bound: float  # the least figure that passes, or the largest
    least: bool = True  # whether it is the least

    def passes(self, value: float | None) -> bool:
        """Whether a figure was measured and lies on the right side."""
        return value is not None and (value >= self.bound if self.least else value <= self.bound)


_DRAWN = dict(object=0.97, background=0.97, colour=0.98, companion=0.98, texture=0.9, size=0.93, place=0.93)
GATES = {
    **{f"generated {name}": Gate(bound) for name, bound in (_DRAWN | {NOTHING: 0.93}).items()},
    **{f"four steps behind, {name}": Gate(_LCM_BEHIND, least=False) for name in (*_DRAWN, NOTHING)},
    **{f"CLIP zero-shot {name}": Gate(0.9) for name in _SAID},
    "CLIP retrieval among 64": Gate(0.9),
    **{f"captions {name}": Gate(0.95) for name in _SAID},
    "segmentation mean IoU": Gate(0.7),
    "segmentation least IoU of an object": Gate(0.7),
    "segmentation most false positives": Gate(0.05, least=False),
    "VAE mean error of 255": Gate(2.5, least=False),
    "VAE most that the probe loses": Gate(0.02, least=False),
    "clean accuracy": Gate(0.98),
}
"""Name of every gate to its bound. There is none for what has no public word: its figures stand beside the gates."""


@torch.no_grad()
def accuracy(folder: Path, scenes: Scenes) -> float:
    """Return the accuracy of the clean classifier on scenes with an object and independent attributes."""
    model = ResNetForImageClassification.from_pretrained(folder / "classifiers" / "clean", dtype=torch.float32).eval()
    objects = scenes.column("object")
    rows = ((scenes.column("style") == 0) & (objects < len(OBJECTS))).nonzero()[:, 0]
    parts = [model(as_pixels(scenes.pixels[some], model.device)).logits for some in rows.split(200)]
    return float((torch.cat(parts).argmax(1) == objects[rows]).float().mean())


def measure(folder: Path, scenes: Scenes) -> Measured:
    """Return the figures of every model that lies in a folder."""
    there = [name for name in FIGURES if name != "vae" and part(folder, name).is_dir()]
    found = {name: FIGURES[name](folder, scenes) for name in there}
    clean = (folder / "classifiers" / "clean").is_dir()
    return found | ({"classifiers": {"clean accuracy": accuracy(folder, scenes)}} if clean else {})


def values_of_gates(found: Measured) -> dict[str, float | None]:
    """Return the figure of every gate, ``None`` where its model or attribute is not there."""
    figures: Measured = {name: found.get(name, {}) for name in (*FIGURES, "classifiers")}
    drawn, quick, segmenter = figures["unet"], figures["lcm"], figures["segmenter"]
    overlap = {name.removeprefix("IoU "): value for name, value in segmenter.items() if name.startswith("IoU ")}
    false = [value for name, value in segmenter.items() if name.startswith("false ")]
    lost = [value for name, value in figures["decoder"].items() if name.startswith("lost ")]
    values: dict[str, float | None] = dict.fromkeys(GATES)
    values |= {f"generated {name}": value for name, value in drawn.items()}
    values |= {f"four steps behind, {name}": drawn[name] - value for name, value in quick.items() if name in drawn}
    values |= {f"CLIP zero-shot {name}": value for name, value in figures["clip"].items()}
    values |= {f"captions {name}": value for name, value in figures["captioner"].items()}
    values |= figures["classifiers"]
    values["CLIP retrieval among 64"] = figures["clip"].get("retrieval among 64")
    values["VAE mean error of 255"] = figures["decoder"].get("mean error of 255")
    if overlap:
        values["segmentation mean IoU"] = sum(overlap.values()) / len(overlap)
        values["segmentation least IoU of an object"] = min(overlap[name] for name in OBJECTS)
        values["segmentation most false positives"] = max(false)
    if lost:
        values["VAE most that the probe loses"] = max(lost)
    return {name: values[name] for name in GATES}


def main() -> None:
    """Measure every gate, print the table, write the JSON; exit 1 when a gate is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__)
    parser.add_argument("--build", type=Path, help="a build folder of the recipe; default: what the package ships")
    parser.add_argument("--scenes", type=int, default=len(HELD_OUT_SEEDS), help="held-out scenes to judge on")
    arguments = parser.parse_args()
    folder = arguments.build or WEIGHTS
    found = measure(folder, scenes_of(folder, HELD_OUT_SEEDS[: arguments.scenes]))
    values = values_of_gates(found)
    passed = {name: gate.passes(values[name]) for name, gate in GATES.items()}
    for name, gate in GATES.items():
        value = values[name]
        shown = "   -  " if value is None else f"{value:6.3f}"
        side = "at least" if gate.least else "at most "
        sys.stdout.write(f"{name:36} {shown}  ({side} {gate.bound:.2f})  {'ok' if passed[name] else 'MISSED'}\n")
    record = {
        "command": f"python -m benchmarks.gates --scenes {arguments.scenes}",
        "sampling": {"steps": STEPS, "guidance scale": GUIDANCE_SCALE},
        "values": values,
        "bounds": {name: gate._asdict() for name, gate in GATES.items()},
        "passed": passed,
        "figures": found,
        "versions": versions(),
        "device": device_record(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json_atomic(RESULT if arguments.build is None else folder / "gates.json", record)
    sys.exit(0 if all(passed.values()) else 1)


if __name__ == "__main__":
    main()
