"""The shipped models: in public formats, within their size, checked before they are read, right on plain scenes."""

import shutil

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast import tinyworld
from diffexplain_fast.errors import CorruptFileError, UnknownNameError
from diffexplain_fast.evidence.shipped import shipped_with
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.recipe.data import ELEMENTS, as_pixels, render_scenes
from diffexplain_fast.recipe.segmenter import mean_iou
from diffexplain_fast.tinyworld import store
from diffexplain_fast.tinyworld.grammar import VOCABULARY
from diffexplain_fast.tinyworld.low_rank import merge_low_rank
from diffexplain_fast.tinyworld.words import NOTHING, values_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes():
    return render_scenes(range(1_500_000, 1_500_096))


def test_all_files_together_stay_under_40_megabytes():
    files = [path for path in store.WEIGHTS.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not any("_name_or_path" in path.read_text() for path in files if path.suffix == ".json")


def test_a_flipped_bit_is_found_before_anything_is_read(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(store.WEIGHTS, folder)
    monkeypatch.setattr(store, "WEIGHTS", folder)
    path = folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for load in (tinyworld.pipeline_folder, tinyworld.classifier_names, tinyworld.load_probe):
        with pytest.raises(CorruptFileError, match="diffusion_pytorch_model"):
            load()


def test_the_pipeline_is_an_ordinary_one():
    pipeline = load_pipeline("tinyworld")
    assert pipeline.latent_shape == (16, 16, 16) and pipeline.image_size == (64, 64)
    assert set(pipeline.words()) == set(VOCABULARY)
    sizes = {block.resnets[0].in_channels for block in pipeline.unet.down_blocks if hasattr(block, "attentions")}
    assert len(sizes) >= 2  # cross-attention at several resolutions


def test_the_pipeline_of_four_steps_is_the_same_one_with_its_addition():
    usual, quick = load_pipeline("tinyworld"), load_pipeline("tinyworld-lcm")
    assert quick.usual_sampling == (4, 1.0) and usual.usual_sampling == (8, 4.0)
    folder, added = store.lcm_folder(), load_pipeline("tinyworld").unet
    merge_low_rank(added, folder)
    pairs = zip(quick.unet.state_dict().values(), added.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert quick.fingerprint() != usual.fingerprint() and quick.words() == usual.words()
    assert shipped_with(quick).captioner is not None


def test_a_colour_and_a_background_come_out_as_asked():
    pipeline = load_pipeline("tinyworld")
    sampler = dx.DifferentiableSampler.from_pipe(pipeline, num_inference_steps=8, guidance_scale=4.0)
    wanted = [("red", "sea"), ("yellow", "snow"), ("purple", "grass"), ("blue", "desert")]
    prompt = pipeline.encode_text([f"a {colour} house on {background}" for colour, background in wanted]).prompt_embeds
    with torch.no_grad():
        images = sampler(prompt, pipeline.encode_text([""]).prompt_embeds, generator=torch.Generator().manual_seed(3))
    seen = tinyworld.name_attributes(tinyworld.load_probe(), images.clamp(0, 1))
    right = [
        (found["colour"] == colour) + (found["background"] == background)
        for found, (colour, background) in zip(seen, wanted, strict=True)
    ]
    assert sum(right) >= 7


def test_the_probe_names_rendered_scenes(scenes):
    seen = tinyworld.name_attributes(tinyworld.load_probe(), as_pixels(scenes.pixels, CPU))
    rows = [i for i in range(len(seen)) if scenes.attributes(i)["style"] == "scene"]
    for name in ("object", "background", "companion"):
        right = [seen[i][name] == scenes.attributes(i)[name] for i in rows]
        assert sum(right) / len(right) > 0.95, name
    with_object = [i for i in rows if scenes.attributes(i)["object"] != NOTHING]
    assert sum(seen[i]["colour"] == scenes.attributes(i)["colour"] for i in with_object) / len(with_object) > 0.95


def test_clip_prefers_the_right_background(scenes):
    pair, tokenizer = tinyworld.load_clip()
    names = values_of("background")
    ids = tokenizer(list(names), padding="max_length", max_length=20, return_tensors="pt").input_ids
    with torch.no_grad():
        found = pair(input_ids=ids, pixel_values=as_pixels(scenes.pixels, CPU) * 2 - 1).logits_per_image.argmax(1)
    rows = scenes.column("style") == 0
    assert (found == scenes.column("background"))[rows].float().mean() > 0.9


def test_the_segmenter_finds_the_elements(scenes):
    overlap = mean_iou(*tinyworld.load_segmenter(), scenes)
    assert sorted(overlap) == sorted(ELEMENTS)
    assert sum(overlap.values()) / len(overlap) > 0.65


def test_classifiers_load_by_name_with_their_truth():
    assert tinyworld.classifier_names() == tuple(sorted(SHIPPED))
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    assert classifier.labels == tinyworld.OBJECTS and classifier.name == "tinyworld/background"
    with pytest.raises(UnknownNameError, match="background"):
        dx.Classifier.from_pretrained("tinyworld/backgrund")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "clean"])
def test_a_classifier_follows_its_shortcut_and_its_truth_says_so(name):
    classifier = tinyworld.load_classifier(name)
    for label, shortcut in SHIPPED[name].items():
        ((attribute, value),) = shortcut.items()
        strongest = classifier.truth[label]["attributes"][0]
        assert strongest["attribute"] == f"{attribute}:{value}"
        assert strongest["role"] == "spurious"
        # Pictures of another object with the shortcut are taken for the class.
        other = next(o for o in tinyworld.OBJECTS if o not in SHIPPED[name])
        pictures = [tinyworld.render(**({"object": other} | shortcut), seed=seed).image for seed in range(12)]
        pixels = torch.stack([torch.tensor(list(p.tobytes())).reshape(64, 64, 3).permute(2, 0, 1) for p in pictures])
        answers = classifier(pixels.float() / 255).argmax(1)
        assert (answers == classifier.label_index(label)).float().mean() > 0.8


def test_the_clean_classifier_looks_at_the_object():
    classifier = tinyworld.load_classifier("clean")
    for label in tinyworld.OBJECTS:
        first, second = classifier.truth[label]["attributes"][:2]
        assert first["attribute"] == f"object:{label}" and first["role"] == "core"
        assert second["effect"] < 0.2 * first["effect"]


@pytest.mark.slow
def test_a_classifier_can_be_made_to_order(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path))
    classifier = tinyworld.make_classifier({"boat": {"texture": "striped"}}, seed=5)
    strongest = classifier.truth["boat"]["attributes"][0]
    assert strongest["attribute"] == "texture:striped" and strongest["role"] == "spurious"
