"""How large pages of many results are, and how long they take to open: ``python -m benchmarks.discovery.pages``.

The results are made up, with the shapes of real ones: an audit of 1,000 classes over the concepts of the tiny world,
every one with a verdict and eight pictures of 512 x 512 pixels, and explanations of eight classes with all pictures.
Pictures are scenes of the tiny world with noise, which are harder to compress than those that a model draws. A page is
opened in the Chromium of the operating system by Playwright (extra ``browser``), each time in a new profile.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.bench.rows import commit
from diffexplain_fast.report.writing import write_report
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow, Interaction, Verdict
from diffexplain_fast.results.explanation import ActivationScore, Explanation, Iteration, Word
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld import BACKGROUNDS, COLOURS, COMPANIONS, OBJECTS, PLACES, SIZES, TEXTURES, render

RESULT = Path(__file__).parent.parent / "results" / "pages.json"
BARS = {"audit of 1,000 classes": (10e6, 2.0), "explanations of 8 classes": (3e6, 2.0)}
"""Page to the most bytes that it may have, and the most seconds until it is open."""
_VALUES = {
    "object": OBJECTS,
    "background": BACKGROUNDS,
    "colour": COLOURS,
    "texture": TEXTURES,
    "companion": COMPANIONS,
}
_VALUES |= {"size": SIZES, "place": PLACES}
_SIDE, _PICTURES, _OPENED = 512, 8, 5
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def many_classes(classes: int, side: int = _SIDE) -> Audit:
    """Return a made-up audit in which every tenth class answers to a background and every class to its own object.

    Args:
        classes: number of classes; the concepts are those of the tiny world.
        side: of the pictures, in pixels.
    """
    rng, names = np.random.default_rng(0), [f"class {i:03d}, a name as long as ImageNet has" for i in range(classes)]
    concepts = [f"{group}:{value}" for group, values in _VALUES.items() for value in values]
    own, grounds = concepts[0], [name for name in concepts if name.startswith("background:")]
    rows, verdicts, pairs = list[AuditRow](), dict[str, Verdict](), list[Interaction]()
    for i, name in enumerate(names):
        cue = grounds[i % len(grounds)] if i % 10 == 0 else None
        rows += [_row(name, concept, rng, concept == own, concept == cue) for concept in concepts]
        found = [own] if cue is None else [own, cue]
        said = f"{name}: answers to {' and to '.join(found)}, by 2.14 logits [1.61, 2.67] and 31 points of answers."
        verdicts[name] = Verdict("core" if cue is None else "both", found, said, [], [*range(_PICTURES)])
        pairs += [Interaction(name, own, cue, 1.5, 1.0, 2.0, 0.01, "and")] if cue else []
    settings = {"pictures": 400, "pictures_used": 400, "minimal_effect": 0.5, "level": 0.05, "control": "fdr"}
    return Audit("a published network", rows, pairs, verdicts, settings | {"eye": "CLIP"}, _scenes(_PICTURES, side))


def _row(target: str, concept: str, rng: np.random.Generator, own: bool, cue: bool) -> AuditRow:
    effect = float(rng.normal(2.5 if own or cue else 0.0, 0.3))
    role, finding = "core" if own else "spurious" if cue else "none", own or cue
    declared, tipping = "label" if own else None, 1.2 if finding else None
    ends, p = (effect - 0.5, effect + 0.5), (0.0007 if finding else 0.83)
    shares = (0.97, declared, 0.41 if finding else 0.1, 0.1, None, None, tipping, 48)
    return AuditRow(target, concept, effect, *ends, p, p, finding, role, effect, *shares)


def several_explanations(classes: int, side: int = _SIDE) -> list[Explanation]:
    """Return made-up explanations with pictures of every group.

    Args:
        classes: how many.
        side: of the pictures, in pixels.
    """
    found, scenes = [], _scenes(3 * _PICTURES, side)
    for i in range(classes):
        name = f"class {i}"
        answers = [Answer(j, 3.0, 0.9 - j / 20, j < 6, name if j < 6 else "another") for j in range(_PICTURES)]
        groups = {
            group: [Picture(scenes[place * _PICTURES + j].copy(), answers[j]) for j in range(_PICTURES)]
            for place, group in enumerate(("held_out", "class_name", "failures"))
        }
        scores = {key: ActivationScore(32, 0.75, (0.58, 0.87), 3.0, 0.8) for key in ("class_name", "train", "held_out")}
        history = [Iteration(step, 4.0 / (step + 1), float(step), 0.1, 0.5) for step in range(200)]
        words = [[Word(f"word{place}", 0.9 - place / 10) for place in range(5)] for _ in range(4)]
        shown = [picture.image for picture in groups["held_out"]]
        values = (f"ClassProbability({name})", name, shown, torch.zeros(4, 64), scores, words, history)
        found.append(Explanation(*values, {"classifier": "a published network", "seed": 0}, pictures=groups))
    return found


def _scenes(count: int, side: int) -> list[Image.Image]:
    """Return scenes with noise, which no two share."""
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        background = BACKGROUNDS[i % len(BACKGROUNDS)]
        scene = (
            render("fish", background=background).image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        )
        noisy = np.asarray(scene, dtype=float) + rng.normal(0, 6, (side, side, 3))
        found.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return found


def written(results: Audit | list[Explanation], path: Path) -> dict[str, float]:
    """Write a page, and return its bytes, and the seconds and CPU seconds that it took."""
    wall, busy = time.perf_counter(), time.process_time()
    write_report(results, path)
    seconds, cpu = time.perf_counter() - wall, time.process_time() - busy
    return {"bytes": path.stat().st_size, "write_seconds": seconds, "write_cpu_seconds": cpu}


@contextmanager
def _chromium() -> Iterator[Any]:
    from playwright import sync_api

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("chromium: wanted an installed one (apt-get install chromium), got none")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield started
        finally:
            started.close()


def opened(started: Any, path: Path) -> dict[str, float]:
    """Open a page in a new profile, and return seconds until it is loaded and first seen, and those of its process."""
    context = started.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.set_default_timeout(300_000)  # milliseconds
        session = context.new_cdp_session(page)
        session.send("Performance.enable")
        page.goto(path.as_uri())
        seen = page.wait_for_function(
            "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        ).json_value()
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return {"loaded": loaded / 1000, "seen": seen / 1000, "cpu": metrics["ProcessTime"]}
    finally:
        context.close()


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """Return the figures of both pages.

    Args:
        folder: for the pages.
    """
    pages: dict[str, Audit | list[Explanation]] = {
        "audit of 1,000 classes": many_classes(1000),
        "explanations of 8 classes": several_explanations(8),
    }
    paths = {name: folder / f"{name.split()[0]}.html" for name in pages}
    found = {name: written(results, paths[name]) for name, results in pages.items()}
    with _chromium() as started:
        for name, path in paths.items():
            times = [opened(started, path) for _ in range(_OPENED)]
            for key in times[0]:
                found[name][f"open_{key}_seconds"] = median(one[key] for one in times)
    return found


def main() -> None:
    """Run the benchmark; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--keep", type=Path, help="folder in which the pages stay")
    given = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(given.keep or Path(folder))
    write_json_atomic(
        given.out, {**found, "load": load, "commit": commit(), "versions": versions(), "device": device_record()}
    )
    missed = False
    for name, (most, seconds) in BARS.items():
        one = found[name]
        missed |= one["bytes"] > most or one["open_loaded_seconds"] > seconds
        print(f"{name}: {one['bytes'] / 1e6:.2f} MB of at most {most / 1e6:g}")
        print(f"  written in {one['write_seconds']:.1f} s ({one['write_cpu_seconds']:.1f} CPU seconds)")
        print(f"  open in {one['open_loaded_seconds']:.2f} s of at most {seconds:g}", end=", ")
        print(f"seen after {one['open_seen_seconds']:.2f} s; {one['open_cpu_seconds']:.2f} CPU seconds")
    raise SystemExit(missed)


if __name__ == "__main__":
    main()
