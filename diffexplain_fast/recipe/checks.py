"""What the models of the recipe must reach, as figures: one function per model, on scenes that no training has seen."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizer, GitForCausalLM

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.recipe.captioner import write_captions
from diffexplain_fast.recipe.clip import tokens
from diffexplain_fast.recipe.data import Scenes, as_pixels
from diffexplain_fast.tinyworld.grammar import draw_world, full_caption, read_caption, visible
from diffexplain_fast.tinyworld.store import Probe
from diffexplain_fast.tinyworld.words import ABSENCE, ATTRIBUTES, NOTHING, USUAL, WORLD, values_of

_BATCH = 50
_AMONG = 64
Figures = dict[str, float]


def named_right(
    scenes: Sequence[dict[str, str]], seen: Sequence[dict[str, str]], names: Sequence[str]
) -> dict[str, list[bool]]:
    """Return for each attribute whether it was named right, over the scenes in which it can be seen.

    An object or companion that is not there counts under "nothing"; a usual size or place and a pattern or frame that
    is not there count nowhere, except that seeing one where there is none counts against "silent".
    """
    right: dict[str, list[bool]] = {}
    for scene, found in zip(scenes, seen, strict=True):
        for name, value in visible(scene).items():
            if name not in names:
                continue
            kind = name
            if value == ABSENCE.get(name):
                kind = "nothing" if name in ("object", "companion") else "silent"
            right.setdefault(kind, []).append(found.get(name) == value)
    return right


def shares(right: dict[str, list[bool]]) -> Figures:
    """Return the share of right answers per attribute."""
    return {name: sum(answers) / len(answers) for name, answers in right.items()}


def _seen(probe: Probe, pixels: torch.Tensor) -> list[dict[str, str]]:
    found = [{name: logits.argmax(1) for name, logits in probe(part).items()} for part in pixels.split(200)]
    names = {name: torch.cat([part[name] for part in found]).tolist() for name in found[0]}
    return [{name: values_of(name)[codes[i]] for name, codes in names.items()} for i in range(len(pixels))]


def _all(scenes: Scenes) -> list[dict[str, str]]:
    return [scenes.attributes(i) for i in range(len(scenes.codes))]


def only_scenes(scenes: Scenes) -> Scenes:
    """Return the whole scenes: without surfaces and silhouettes."""
    rows = (scenes.column("style") == 0).nonzero()[:, 0]
    return Scenes(scenes.pixels[rows], scenes.codes[rows.numpy()], scenes.elements[rows])


def probe_figures(probe: Probe, scenes: Scenes) -> Figures:
    """Return how often the probe names each attribute of rendered scenes."""
    scenes = only_scenes(scenes)
    seen = _seen(probe, as_pixels(scenes.pixels, torch.device("cpu")))
    return shares(named_right(_all(scenes), seen, list(seen[0])))


@torch.no_grad()
def vae_figures(vae: AutoencoderKL, probe: Probe, scenes: Scenes) -> Figures:
    """Return the mean error of reconstructions, in steps of 255, and what the probe loses on each attribute by them."""
    scenes = only_scenes(scenes)
    pixels = as_pixels(scenes.pixels, torch.device("cpu"))
    parts = []
    for part in pixels.split(_BATCH):
        latents = vae.encode(part.to(vae.device) * 2 - 1).latent_dist.mean
        parts.append((vae.decode(latents).sample.cpu().float() / 2 + 0.5).clamp(0, 1))
    decoded = torch.cat(parts)
    before, after = probe_figures(probe, scenes), shares(named_right(_all(scenes), _seen(probe, decoded), list(WORLD)))
    lost = {f"lost {name}": before[name] - after[name] for name in before if name in after}
    return {"mean error of 255": 255 * float((decoded - pixels).abs().mean())} | lost


def zero_shot_texts(name: str) -> dict[str, str]:
    """Return the text that asks CLIP for each value of an attribute, one word where one word is enough."""
    texts = {value: value for value in values_of(name) if value != USUAL}
    return texts | {NOTHING: f"a picture with {NOTHING}"} if name == "companion" else texts


@torch.no_grad()
def clip_figures(pair: CLIPModel, tokenizer: CLIPTokenizer, scenes: Scenes, names: Sequence[str]) -> Figures:
    """Return the zero-shot accuracy of a CLIP pair per attribute, among the values that have a word."""
    scenes = only_scenes(scenes)
    images = torch.cat(
        [
            pair.get_image_features(pixel_values=as_pixels(part, pair.device) * 2 - 1).pooler_output
            for part in scenes.pixels.split(100)
        ]
    )
    seen: list[dict[str, str]] = [{} for _ in range(len(images))]
    for name in names:
        texts = zero_shot_texts(name)
        features = pair.get_text_features(input_ids=tokens(tokenizer, list(texts.values())).to(pair.device))
        answers = (images @ torch.nn.functional.normalize(features.pooler_output, dim=-1).T).argmax(1).tolist()
        for found, answer in zip(seen, answers, strict=True):
            found[name] = list(texts)[answer]
    right = named_right(_all(scenes), seen, names)
    return {name: share for name, share in shares(right).items() if name != "silent"}


@torch.no_grad()
def retrieval(pair: CLIPModel, tokenizer: CLIPTokenizer, scenes: Scenes, say: Callable[[dict[str, str]], str]) -> float:
    """Return how often a picture's own caption is nearest among 64 different captions, 0 with fewer scenes."""
    scenes = only_scenes(scenes)
    right = total = 0
    chosen: dict[str, int] = {}
    for row in range(len(scenes.codes)):
        chosen.setdefault(say(scenes.attributes(row)), row)
        if len(chosen) == _AMONG:
            pixels = as_pixels(scenes.pixels[list(chosen.values())], pair.device) * 2 - 1
            ids = tokens(tokenizer, list(chosen)).to(pair.device)
            found = pair(input_ids=ids, pixel_values=pixels).logits_per_image.argmax(1)
            right += int((found.cpu() == torch.arange(_AMONG)).sum())
            total += _AMONG
            chosen = {}
    return right / max(total, 1)


def caption_figures(model: GitForCausalLM, tokenizer: CLIPTokenizer, scenes: Scenes) -> Figures:
    """Return how often the captioner says each attribute as it is, and how often the whole caption is right."""
    scenes = only_scenes(scenes)
    attributes, texts = _all(scenes), write_captions(model, tokenizer, scenes.pixels)
    seen = []
    for text in texts:
        said = read_caption(text)
        single = {name: values[0] for name, values in said.items() if len(values) == 1}
        seen.append({"size": USUAL, "place": USUAL} | single)
    figures = shares(named_right(attributes, seen, [*ATTRIBUTES, "size", "place"]))
    whole = [text == full_caption(scene) for text, scene in zip(texts, attributes, strict=True)]
    return figures | {"whole": sum(whole) / len(whole)}


def drawn_scenes(count: int, names: Sequence[str], seed: int = 11) -> list[dict[str, str]]:
    """Return attributes of scenes to be generated; what is not in ``names`` is absent, as in a world without it."""
    rng = np.random.default_rng(seed)
    absent = {name: value for name, value in ABSENCE.items() if name not in names}
    return [draw_world(rng) | {"style": "scene"} | absent for _ in range(count)]


@torch.no_grad()
def generated_figures(
    pipeline: Pipeline,
    probe: Probe,
    scenes: Sequence[dict[str, str]],
    *,
    steps: int,
    guidance_scale: float,
    say: Callable[[dict[str, str]], str] = lambda scene: full_caption(scene, nameless=True),
) -> Figures:
    """Return how often the probe finds in a generated picture what its caption said, per attribute.

    Args:
        pipeline: what draws.
        probe: the judge.
        scenes: attributes of one scene for each picture.
        steps: of the sampler.
        guidance_scale: of the sampler; 1 for none.
        say: attributes to a caption.
    """
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=steps, guidance_scale=guidance_scale)
    negative = pipeline.encode_text([""]).prompt_embeds if guidance_scale > 1 else None
    right: dict[str, list[bool]] = {}
    for start in range(0, len(scenes), _BATCH):
        part = list(scenes[start : start + _BATCH])
        prompt = pipeline.encode_text([say(scene) for scene in part]).prompt_embeds
        generator = torch.Generator().manual_seed(1000 + start)
        seen = _seen(probe, sampler(prompt, negative, generator=generator).clamp(0, 1).float().cpu())
        for name, answers in named_right(part, seen, list(seen[0])).items():
            right.setdefault(name, []).extend(answers)
    return shares(right)
