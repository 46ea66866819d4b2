"""The gates of the tiny world, measured on what the package ships: ``python -m benchmarks.gates``.

Generated pictures are judged by the probe, which never saw the generator; every other model is judged on scenes that no
training run has seen.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from diffexplain_fast import tinyworld
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.clip import tokens
from diffexplain_fast.recipe.data import HELD_OUT_SEEDS, Scenes, as_pixels, render_scenes
from diffexplain_fast.recipe.segmenter import mean_iou
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld.words import ATTRIBUTES, caption, draw_attributes, values_of

RESULT = Path(__file__).parent / "results" / "tinyworld-gates.json"
BOUNDS = {
    "generated object": 0.95,
    "generated background": 0.95,
    "generated companion": 0.90,
    "generated colour": 0.90,
    "CLIP retrieval among 64": 0.90,
    "segmentation mean IoU": 0.70,
    "clean accuracy": 0.98,
}
_CAPTIONS = 400
_BATCH = 50
_AMONG = 64


@torch.no_grad()
def generated(steps: int, guidance_scale: float, count: int = _CAPTIONS) -> dict[str, float]:
    """Return how often the probe finds in a generated picture what its caption said, per attribute."""
    pipeline = load_pipeline("tinyworld")
    probe = tinyworld.load_probe()
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=steps, guidance_scale=guidance_scale)
    rng = np.random.default_rng(11)
    hits = {name: 0 for name in ATTRIBUTES if name != "texture"}
    negative = pipeline.encode_text([""]).prompt_embeds
    for start in range(0, count, _BATCH):
        scenes = [
            draw_attributes(rng)
            | {"style": "scene", "texture": "plain", "object": str(rng.choice(ATTRIBUTES["object"]))}
            | {"companion": str(rng.choice(ATTRIBUTES["companion"]))}
            for _ in range(min(_BATCH, count - start))
        ]
        prompt = pipeline.encode_text([caption(scene) for scene in scenes]).prompt_embeds
        generator = torch.Generator().manual_seed(1000 + start)
        images = sampler(prompt, negative_prompt_embeds=negative, generator=generator).clamp(0, 1)
        for name, values in probe(images).items():
            if name in hits:
                wanted = torch.tensor([values_of(name).index(scene[name]) for scene in scenes])
                hits[name] += int((values.argmax(1) == wanted).sum())
    return {name: hit / count for name, hit in hits.items()}


@torch.no_grad()
def retrieval(scenes: Scenes) -> float:
    """Return how often a picture's own caption is nearest among 64 different captions."""
    pair, tokenizer = tinyworld.load_clip()
    right = total = 0
    chosen: dict[str, int] = {}
    for row in np.flatnonzero(scenes.column("style").numpy() == 0):
        chosen.setdefault(caption(scenes.attributes(row)), int(row))
        if len(chosen) == _AMONG:
            pixels = as_pixels(scenes.pixels[list(chosen.values())], pair.device) * 2 - 1
            ids = tokens(tokenizer, list(chosen)).to(pair.device)
            found = pair(input_ids=ids, pixel_values=pixels).logits_per_image.argmax(1)
            right += int((found.cpu() == torch.arange(_AMONG)).sum())
            total += _AMONG
            chosen = {}
    return right / total


@torch.no_grad()
def accuracy(scenes: Scenes) -> float:
    """Return the accuracy of the clean classifier on scenes with an object and independent attributes."""
    classifier = tinyworld.load_classifier("clean")
    objects = scenes.column("object")
    rows = ((scenes.column("style") == 0) & (objects < len(ATTRIBUTES["object"]))).nonzero()[:, 0]
    found = torch.cat([classifier(as_pixels(scenes.pixels[part], classifier.device)) for part in rows.split(200)])
    return float((found.argmax(1).cpu() == objects[rows]).float().mean())


@torch.no_grad()
def probe_accuracy(scenes: Scenes) -> dict[str, float]:
    """Return the probe's own accuracy on rendered scenes, per attribute."""
    probe = tinyworld.load_probe()
    rows = ((scenes.column("style") == 0) & (scenes.column("object") < len(ATTRIBUTES["object"]))).nonzero()[:, 0]
    parts = [probe(as_pixels(scenes.pixels[part], torch.device("cpu"))) for part in rows.split(200)]
    return {
        name: float((torch.cat([p[name] for p in parts]).argmax(1) == scenes.column(name)[rows]).float().mean())
        for name in ATTRIBUTES
    }


def main() -> None:
    """Measure every gate, print the table, write the JSON; exit 1 when a gate is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance-scale", type=float, default=3.0)
    arguments = parser.parse_args()
    scenes = render_scenes(HELD_OUT_SEEDS)
    segmenter, tokenizer = tinyworld.load_segmenter()
    overlap = mean_iou(segmenter, tokenizer, scenes)
    made = generated(arguments.steps, arguments.guidance_scale)
    values = {f"generated {name}": value for name, value in made.items()} | {
        "CLIP retrieval among 64": retrieval(scenes),
        "segmentation mean IoU": sum(overlap.values()) / len(overlap),
        "clean accuracy": accuracy(scenes),
    }
    passed = {name: values[name] >= bound for name, bound in BOUNDS.items()}
    for name, bound in BOUNDS.items():
        sys.stdout.write(
            f"{name:28} {values[name]:.3f}  (at least {bound:.2f})  {'ok' if passed[name] else 'MISSED'}\n"
        )
    record = {
        "command": f"python -m benchmarks.gates --steps {arguments.steps} --guidance-scale {arguments.guidance_scale}",
        "values": values,
        "bounds": BOUNDS,
        "passed": passed,
        "IoU per element": overlap,
        "probe accuracy on rendered scenes": probe_accuracy(scenes),
        "versions": versions(),
        "device": device_record(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    write_json_atomic(RESULT, record)
    sys.exit(0 if all(passed.values()) else 1)


if __name__ == "__main__":
    main()
