"""The bars of the main job: every class of every tiny world classifier explained, ``python -m benchmarks.bars``.

What an explanation's held-out pictures show is judged by the probe, which never saw the generator.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.storage import read_json, write_json_atomic
from diffexplain_fast.tinyworld.store import Probe
from diffexplain_fast.tinyworld.words import ATTRIBUTES, NOTHING

RESULT = Path(__file__).parent / "results" / "tinyworld-bars.json"
_PICTURES = 32
RATE_MEAN, BEHIND_CLASS_NAME, SHORTCUT_SHOWN, CLEAN_EXCESS = 0.9, 0.05, 0.8, 0.15


def shares(seen: list[dict[str, str]]) -> dict[str, float]:
    """Return the share of pictures in which the probe saw each attribute value."""
    return {
        f"{name}:{value}": sum(found[name] == value for found in seen) / len(seen)
        for name, values in ATTRIBUTES.items()
        for value in (*values, NOTHING)
    }


def explain_class(explainer: dx.Explainer, probe: Probe, label: str, shortcut: dict[str, str]) -> dict[str, Any]:
    """Explain one class; return its row of the table."""
    start = time.perf_counter()
    explanation = explainer.explain(label, n_images=_PICTURES, n_score=_PICTURES)
    seconds = time.perf_counter() - start
    pixels = torch.stack(
        [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in explanation.images]
    )
    seen = tinyworld.name_attributes(probe, pixels)
    row: dict[str, Any] = {
        "label": label,
        "held-out rate": explanation.activation["held_out"].rate,
        "held-out interval": explanation.activation["held_out"].interval,
        "train rate": explanation.activation["train"].rate,
        "class-name rate": explanation.activation["class_name"].rate,
        "words": [token[0].word for token in explanation.words],
        "start": explanation.settings["start"],
        "iterations": len(explanation.history),
        "seconds": seconds,
        "shares": shares(seen),
    }
    if shortcut:
        ((name, value),) = shortcut.items()
        row |= {"shortcut": f"{name}:{value}", "shortcut shown": row["shares"][f"{name}:{value}"]}
    return row


def base_rates(probe: Probe, count: int = 96) -> dict[str, float]:
    """Return how often the probe sees each attribute in pictures of the bare class names."""
    pipeline = dx.Explainer("tinyworld", "tinyworld/clean").pipeline
    steps, guidance = pipeline.usual_sampling
    sampler = dx.DifferentiableSampler.from_pipe(pipeline, num_inference_steps=steps, guidance_scale=guidance)
    seen: list[dict[str, str]] = []
    negative = pipeline.encode_text([""]).prompt_embeds
    for i, label in enumerate(tinyworld.OBJECTS):
        each = count // len(tinyworld.OBJECTS)
        prompt = pipeline.encode_text([label] * each).prompt_embeds
        with torch.no_grad():
            images = sampler(prompt, negative, generator=torch.Generator().manual_seed(7000 + i)).clamp(0, 1)
        seen += tinyworld.name_attributes(probe, images)
    return shares(seen)


def verdicts(rows: list[dict[str, Any]], base: dict[str, float]) -> dict[str, Any]:
    """Return the bars: value, bound, and whether it is reached."""
    rates = [row["held-out rate"] for row in rows]
    behind = [row["class-name rate"] - row["held-out rate"] for row in rows]
    shown = [row["shortcut shown"] for row in rows if "shortcut" in row]
    clean = [row for row in rows if row["classifier"] == "clean"]
    excess = {
        name: sum(row["shares"][name] for row in clean) / len(clean) - rate
        for name, rate in base.items()
        if clean and not name.startswith("object:")
    }
    values = {
        "mean held-out rate": (sum(rates) / len(rates), RATE_MEAN, 1),
        "most behind the class name": (max(behind), BEHIND_CLASS_NAME, -1),
    }
    if shown:
        values["least share of pictures with the shortcut"] = (min(shown), SHORTCUT_SHOWN, 1)
    if excess:
        values["most excess of an attribute on clean"] = (max(excess.values()), CLEAN_EXCESS, -1)
    return {
        name: {"value": value, "bound": bound, "reached": (value - bound) * sign >= 0}
        for name, (value, bound, sign) in values.items()
    } | {"excess on clean": excess}


def kept_rows(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an interrupted run by the path of its JSON, none without one; exit if it is of another run."""
    if not path.exists():
        return []
    found = read_json(path)
    differs = [name for name, value in about.items() if found.get(name) != value]
    if differs:
        raise SystemExit(f"{path} is of another run ({', '.join(differs)} differ); give another --out or no --resume")
    return found["rows"]


def main() -> None:
    """Explain everything, print a line per class and the bars, write the JSON; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars", description=__doc__)
    parser.add_argument("--classifiers", nargs="*", default=list(SHIPPED))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep an interrupted run's rows: same seed and versions")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    record = {"command": f"python -m benchmarks.bars --seed {arguments.seed}"}
    rows = kept_rows(arguments.out, record | {"versions": versions()}) if arguments.resume else []
    done = {(row["classifier"], row["label"]) for row in rows}
    probe = tinyworld.load_probe()
    base = base_rates(probe)
    arguments.out.parent.mkdir(exist_ok=True)
    record["base rates"] = base
    for name in arguments.classifiers:
        with dx.Explainer("tinyworld", f"tinyworld/{name}", seed=arguments.seed) as explainer:
            for label in tinyworld.OBJECTS:
                if (name, label) in done:
                    continue
                row = {"classifier": name} | explain_class(explainer, probe, label, dict(SHIPPED[name].get(label, {})))
                rows.append(row)
                shown = f"{row['shortcut']} {row['shortcut shown']:.2f}" if "shortcut" in row else ""
                sys.stdout.write(
                    f"{name:11} {label:9} held-out {row['held-out rate']:.2f}, name {row['class-name rate']:.2f}  "
                    f"{row['iterations']:3d} it {row['seconds']:5.1f} s  {' '.join(row['words']):30} {shown}\n"
                )
                sys.stdout.flush()
                bars = verdicts(rows, base)
                rest = {"bars": bars, "rows": rows, "versions": versions(), "device": device_record()}
                write_json_atomic(arguments.out, record | rest)
    judged = {name: bar for name, bar in bars.items() if name != "excess on clean"}
    for name, bar in judged.items():
        sys.stdout.write(f"{name:45} {bar['value']:.3f}  (bound {bar['bound']}) {bar['reached']}\n")
    sys.exit(0 if all(bar["reached"] for bar in judged.values()) else 1)


if __name__ == "__main__":
    main()
