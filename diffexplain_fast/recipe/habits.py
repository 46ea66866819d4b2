"""What the generator of the tiny world draws where nobody asks for it."""

import functools
from collections import Counter

import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.shortcuts import Cue
from diffexplain_fast.tinyworld.store import load_probe, name_attributes
from diffexplain_fast.tinyworld.words import ABSENCE

_PICTURES, _STEPS = 16, 8


@functools.cache
@torch.no_grad()
def drawn_beside(label: str) -> tuple[dict[str, str], ...]:
    """Return what the shipped probe sees in pictures of a class that were asked for by its word only (some seconds)."""
    pipeline = load_pipeline("tinyworld")
    guidance = pipeline.usual_sampling.guidance_scale
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=_STEPS, guidance_scale=guidance)
    prompt = pipeline.encode_text([f"a {label}"] * _PICTURES).prompt_embeds
    negative = pipeline.encode_text([""]).prompt_embeds
    pictures = sampler(prompt, negative, generator=torch.Generator().manual_seed(17)).clamp(0, 1)
    return tuple(name_attributes(load_probe(), pictures))


def expected(label: str, cue: Cue) -> Cue | None:
    """Return what the generator expects beside a class in place of a cue: of each of its attributes the value that it
    draws most often, other than the cue's own and other than absence; None if the probe names none of them."""
    seen = drawn_beside(label)
    values = []
    for name, own in cue.values:
        counts = Counter(found[name] for found in seen if name in found)
        for value in {own, ABSENCE.get(name, own)}:
            counts.pop(value, None)
        if counts:
            values.append((name, min(counts, key=lambda value: (-counts[value], value))))
    return Cue(tuple(values), every=False) if values else None
