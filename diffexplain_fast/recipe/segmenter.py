"""The segmenter: CLIPSeg on the towers of the CLIP pair, trained on the masks that the renderer knows."""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizer

from diffexplain_fast.recipe.clip import WIDTH, tokens
from diffexplain_fast.recipe.data import ELEMENTS, NO_ELEMENT, Scenes, as_pixels
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.tinyworld.words import BACKGROUNDS, COMPANIONS, OBJECTS

PLAN = Plan(steps=3000, batch=16, rate=1e-3, decay=1e-3, average=0.995, half=True)
_ASKED = 4
"""Elements asked for in every picture of a batch: names are learnt where several of them meet the same picture."""
_PRESENT_SHARE = 0.5
_SIBLING_SHARE = 0.8
"""Share of absent elements that are of the kind of a present one: asked for a boat where there is a car."""
_THRESHOLD = 0.5
_LEAST_SHARE = 0.02
"""Share of the picture above which an element counts as found."""
_KINDS = [[ELEMENTS.index(value) for value in values] for values in (OBJECTS, OBJECTS, BACKGROUNDS, COMPANIONS)]
"""Elements by kind; objects, the hardest to tell apart, are asked for most."""


def build_segmenter(pair: CLIPModel) -> CLIPSegForImageSegmentation:
    """Return a segmenter that starts from the towers of a CLIP pair; its text tower stays as it is."""
    layers = pair.config.vision_config.num_hidden_layers
    config = CLIPSegConfig(
        text_config=pair.config.text_config.to_dict(),
        vision_config=pair.config.vision_config.to_dict(),
        projection_dim=pair.config.projection_dim,
        extract_layers=list(range(layers)),
        reduce_dim=WIDTH // 2,
        decoder_num_attention_heads=4,
        decoder_attention_dropout=0.0,
        decoder_intermediate_size=4 * WIDTH,
    )
    model = CLIPSegForImageSegmentation(config)
    model.clip.load_state_dict(pair.state_dict())
    # CLIPSeg starts these at a standard deviation of 1, which saturates its attention; here outputs start at about 1.
    for layer in (*model.decoder.reduces, model.decoder.film_mul, model.decoder.film_add):
        torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    torch.nn.init.normal_(model.decoder.transposed_convolution.weight, std=config.reduce_dim**-0.5)
    torch.nn.init.ones_(model.decoder.film_mul.bias)
    model.requires_grad_(False)
    for part in (model.clip.vision_model, model.decoder):
        part.requires_grad_(True)
    return model


def prompt_for(element: str) -> str:
    """Return the text that asks for an element."""
    return element if element in BACKGROUNDS else f"a {element}"


def segmenter_loss(model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, scenes: Scenes, batch: int) -> Loss:
    """Return cross-entropy and overlap loss of some asked-for elements of every picture, and that of patches' names.

    Without the last, the segmenter learns to mark any object and stays there: a patch of a boat does not know that it
    is of a boat, because only the first token of the towers was ever asked.
    """
    wanted, centre, spread = standard_wishes(model, tokenizer)
    wishes = (wanted - centre) / spread
    usable = np.flatnonzero((scenes.elements != NO_ELEMENT).flatten(1).any(1).numpy())

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.choice(usable, batch))
        maps = scenes.elements[rows]
        asked = torch.tensor([[_ask(element_map, rng) for _ in range(_ASKED)] for element_map in maps])
        return {"pixels": scenes.pixels[rows], "maps": maps, "asked": asked}

    def loss(batch: Batch) -> torch.Tensor:
        asked = batch["asked"]
        target = (batch["maps"][:, None] == asked[:, :, None, None]).flatten(0, 1).float()
        pixels = as_pixels(batch["pixels"]) * 2 - 1
        # CLIPSeg's own forward keeps its image tower from learning.
        seen = model.clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        repeated = [seen[i + 1].repeat_interleave(_ASKED, 0) for i in model.extract_layers]
        logits = model.decoder(repeated, wishes[asked.flatten()]).logits
        share = logits.sigmoid()
        overlap = (2 * (share * target).sum((1, 2)) + 1) / (share.sum((1, 2)) + target.sum((1, 2)) + 1)
        marked = F.binary_cross_entropy_with_logits(logits, target) + 0.5 * (1 - overlap).mean()
        return marked + _patch_loss(model, seen[model.extract_layers[-1] + 1], batch["maps"], wishes)

    return Loss(draw, loss)


def _patch_loss(
    model: CLIPSegForImageSegmentation, seen: torch.Tensor, maps: torch.Tensor, wishes: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of which element a patch belongs to, scored by the product the decoder starts with.

    Args:
        model: the segmenter.
        seen: the last tokens of the image tower [B, 1 + P, d], the first of which stands for no patch.
        maps: element of every pixel [B, H, W].
        wishes: standardised text embedding of every element [E, d].
    """
    patches = model.decoder.reduces[0](seen[:, 1:])
    scores = patches @ model.decoder.film_mul(wishes).T / patches.shape[-1] ** 0.5
    scores = F.pad(scores, (0, 1))  # a patch of no element scores zero everywhere
    named = F.one_hot(maps.long().clamp_max(len(ELEMENTS)), len(ELEMENTS) + 1).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(named, model.config.vision_config.patch_size).flatten(2).transpose(1, 2)
    return -(shares * scores.float().log_softmax(-1)).sum(-1).mean()


@torch.no_grad()
def standard_wishes(
    model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the text embedding of every element [E, d], their mean [d] and their standard deviation [d].

    The embeddings share one large direction that says nothing; the decoder learns on standardised ones.
    """
    prompts = tokens(tokenizer, [prompt_for(element) for element in ELEMENTS]).to(model.device)
    wanted = model.get_conditional_embeddings(batch_size=len(prompts), input_ids=prompts)
    return wanted, wanted.mean(0), wanted.std(0)


@torch.no_grad()
def fold_standardisation(model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer) -> None:
    """Move the standardisation of text embeddings into the weights that read them: afterwards CLIPSeg runs as it is."""
    _, centre, spread = standard_wishes(model, tokenizer)
    for reader in (model.decoder.film_mul, model.decoder.film_add):
        reader.weight /= spread
        reader.bias -= reader.weight @ centre


def _ask(element_map: torch.Tensor, rng: np.random.Generator) -> int:
    present = [i for i in element_map.unique().tolist() if i != NO_ELEMENT]
    if rng.random() < _PRESENT_SHARE:
        return int(rng.choice(present))
    absent = [i for i in range(len(ELEMENTS)) if i not in present]
    if rng.random() < _SIBLING_SHARE:
        kind = {i for i in _KINDS[int(rng.integers(len(_KINDS)))] if i not in present}
        return int(rng.choice(sorted(kind)))
    return int(rng.choice(absent))


@torch.no_grad()
def false_positives(model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, scenes: Scenes) -> dict[str, float]:
    """Return for every element how often it is found, above 2 % of the picture, in scenes in which it is not."""
    prompts = tokens(tokenizer, [prompt_for(element) for element in ELEMENTS]).to(model.device)
    masked = (scenes.elements != NO_ELEMENT).flatten(1).any(1)
    scores = {}
    for i, element in enumerate(ELEMENTS):
        rows = (masked & ~(scenes.elements == i).flatten(1).any(1)).nonzero()[:, 0]
        found = 0
        for part in rows.split(100):
            pixels = as_pixels(scenes.pixels[part], model.device) * 2 - 1
            ids = prompts[i].expand(len(part), -1)
            share = (model(pixel_values=pixels, input_ids=ids).logits.sigmoid() > _THRESHOLD).float().mean((1, 2))
            found += int((share > _LEAST_SHARE).sum())
        scores[element] = found / max(len(rows), 1)
    return scores


@torch.no_grad()
def mean_iou(model: CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, scenes: Scenes) -> dict[str, float]:
    """Return the intersection over union of every element, over all scenes in which it is present."""
    prompts = tokens(tokenizer, [prompt_for(element) for element in ELEMENTS]).to(model.device)
    scores = {}
    for i, element in enumerate(ELEMENTS):
        maps = scenes.elements == i
        rows = maps.flatten(1).any(1).nonzero()[:, 0]
        inside = union = 0
        for part in rows.split(100):
            pixels = as_pixels(scenes.pixels[part], model.device) * 2 - 1
            ids = prompts[i].expand(len(part), -1)
            found = model(pixel_values=pixels, input_ids=ids).logits.sigmoid().cpu() > _THRESHOLD
            inside += int((found & maps[part]).sum())
            union += int((found | maps[part]).sum())
        scores[element] = inside / max(union, 1)
    return scores
