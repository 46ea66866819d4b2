"""The recipe's parts: sizes counted before training, words kept apart, and losses that ask the right question."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPModel

from diffexplain_fast.recipe.captioner import build_captioner
from diffexplain_fast.recipe.classifiers import Changes, augmented
from diffexplain_fast.recipe.clip import build_clip, said_values, seen_values, silence_unused_tokens
from diffexplain_fast.recipe.data import ELEMENTS, NO_ELEMENT, render_given, render_scenes
from diffexplain_fast.recipe.lcm import LowRank, add_low_rank, save_low_rank
from diffexplain_fast.recipe.package import LIMIT
from diffexplain_fast.recipe.probes import build_probe
from diffexplain_fast.recipe.segmenter import build_segmenter
from diffexplain_fast.recipe.tokenizer import build_tokenizer, learn_merges
from diffexplain_fast.recipe.unet import build_unet
from diffexplain_fast.recipe.vae import LATENTS, build_vae, pixel_weights
from diffexplain_fast.tinyworld.grammar import (
    NAMELESS_WORDS,
    VOCABULARY,
    draw_world,
    is_true,
    read_caption,
    varied_caption,
    wrong_caption,
)
from diffexplain_fast.tinyworld.low_rank import FILE, merge_low_rank
from diffexplain_fast.tinyworld.words import values_of


def count(model: nn.Module, only=lambda parameter: True) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if only(parameter))


def test_all_models_together_stay_under_40_megabytes_in_float16():
    tokenizer = build_tokenizer()
    pair = build_clip(tokenizer)
    unet = add_low_rank(build_unet())
    classifiers = 4 * count(build_probe())
    sizes = dict(
        pipeline=count(unet) + count(build_vae()) + count(pair.text_model),
        eyes=count(pair) + count(build_segmenter(pair)) + count(build_captioner(tokenizer)) + count(build_probe()),
        classifiers=classifiers,
    )
    assert 2 * sum(sizes.values()) < 0.95 * LIMIT  # the rest are configurations, tokenizers and truth
    assert 2 * count(unet, lambda parameter: parameter.requires_grad) < 4e6


def test_made_up_words_are_added_tokens_and_the_rest_is_the_same_everywhere():
    first, second, public = build_tokenizer(), build_tokenizer(), build_tokenizer(nameless=False)
    assert first.get_vocab() == second.get_vocab()
    assert public.get_vocab().items() <= first.get_vocab().items()
    for word in NAMELESS_WORDS.values():
        assert first.tokenize(f"sea {word}") == ["sea</w>", word]
        assert word not in public.get_vocab()
    assert first.tokenize("a boat daxes")[2] != "dax"  # only whole words


def test_merges_make_every_word_one_piece():
    assert learn_merges(["ab", "abb"]) == [("a", "b"), ("a", "b</w>"), ("ab", "b</w>")]
    ties = ["fg", "de", "bc", "hi", "ab"]
    assert learn_merges(ties) == [(a, f"{b}</w>") for a, b in sorted(ties)]


def test_words_that_no_caption_uses_are_silent_and_made_up_ones_are_not():
    tokenizer = build_tokenizer()
    pair: CLIPModel = build_clip(tokenizer)
    silence_unused_tokens(pair, tokenizer)
    norms = pair.text_model.get_input_embeddings().weight.norm(dim=1)
    vocabulary = tokenizer.get_vocab()
    assert all(norms[vocabulary[f"{word}</w>"]] > 0 for word in VOCABULARY)
    assert all(norms[vocabulary[word]] > 0 for word in NAMELESS_WORDS.values())
    assert norms[vocabulary["q"]] == 0 and norms[vocabulary["q</w>"]] == 0


def test_a_caption_matches_the_pictures_of_which_it_is_true():
    scenes = render_scenes(range(60), draw_world)
    rng = np.random.default_rng(5)
    attributes = [scenes.attributes(i) for i in range(60)]
    texts = [varied_caption(scene, rng) for scene in attributes]
    texts += [wrong_caption(text, scene, rng) or text for text, scene in zip(texts, attributes, strict=True)]
    allowed, said = said_values(texts)
    found = seen_values(scenes) @ allowed.T == said
    wanted = [[is_true(read_caption(text), scene) for text in texts] for scene in attributes]
    assert torch.equal(found, torch.tensor(wanted))


def test_an_element_weighs_as_the_square_root_of_its_area():
    elements = torch.zeros(2, 64, 64, dtype=torch.uint8)
    elements[0, :16, :16] = 7  # a 16th of the picture
    elements[1, 0, 0] = 7
    weights = pixel_weights(elements)
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(2))
    small, large = weights[0, 0, 0, 0], weights[0, 0, -1, -1]
    torch.testing.assert_close((small / large) ** 2, torch.tensor(15.0))  # by pixel the 15th part weighs as root 15
    assert 11 < weights[1, 0, 0, 0] < 13  # a single pixel is not all that is learnt


def test_frames_belong_to_no_element():
    given = dict(object="boat", colour="red", texture="plain", background="sea", companion="sun", style="scene")
    scenes = render_given([given, given | {"frame": "dark"}], [4, 4])
    assert (scenes.elements[0] != NO_ELEMENT).all()
    assert (scenes.elements[1, 0] == NO_ELEMENT).all() and (scenes.elements[1, 30, 30] != NO_ELEMENT)
    assert ELEMENTS.index("boat") in scenes.elements[1].unique().tolist()
    assert scenes.attributes(0)["size"] == values_of("size")[-1] and scenes.attributes(1)["frame"] == "dark"


@pytest.mark.parametrize("mirror", [True, False])
def test_only_a_model_that_need_not_tell_left_from_right_sees_mirrored_pictures(mirror):
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., :20] = 1
    sides = set()
    for seed in range(12):
        seen = augmented(pixels, np.random.default_rng(seed), torch.Generator().manual_seed(seed), Changes(mirror))
        sides.add(bool(seen[..., :32].mean() > seen[..., 32:].mean()))
    assert sides == ({True, False} if mirror else {True})


def test_a_low_rank_addition_starts_at_nothing_and_merges_to_the_same(tmp_path):
    torch.manual_seed(0)
    unet = build_unet().eval()
    student = add_low_rank(copy.deepcopy(unet)).eval()
    inputs = (torch.randn(1, *LATENTS), torch.tensor([301]), torch.randn(1, 5, 128))
    with torch.no_grad():
        before = unet(*inputs).sample
        assert torch.equal(student(*inputs).sample, before)
        for layer in student.modules():
            if isinstance(layer, LowRank):
                layer.lora_A.weight.copy_(layer.lora_A.weight.half())
                layer.lora_B.weight.normal_(std=0.05).copy_(layer.lora_B.weight.half())
        save_low_rank(student, tmp_path)
        after = student(*inputs).sample
        merge_low_rank(unet, tmp_path)
        assert (after - before).abs().max() > 0.01
        assert torch.allclose(unet(*inputs).sample, after, atol=1e-4)
    assert (tmp_path / FILE).stat().st_size < 4e6
