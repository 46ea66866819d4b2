"""What looks at pictures: the shipped CLIP pair and segmenter, and a captioner of the recipe's format."""

import pytest
import torch

from diffexplain_fast import tinyworld
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.models.git_captions import greedy_captions
from diffexplain_fast.models.seeing import Captioner, Segmenter, Similarity
from diffexplain_fast.recipe.captioner import build_captioner
from diffexplain_fast.recipe.tokenizer import build_tokenizer
from diffexplain_fast.tinyworld import store
from tests.tiny import seeded

SCENES = [tinyworld.render(object="car", background=name, seed=i) for i, name in enumerate(("sea", "night", "snow"))]
PIXELS = as_pixels([scene.image for scene in SCENES], (64, 64))


def test_the_pair_finds_the_background_in_any_size() -> None:
    pair = Similarity(*tinyworld.load_clip())
    texts = pair.texts(["night", "snow", "sea"])
    large = torch.nn.functional.interpolate(PIXELS, (96, 96), mode="bilinear")
    for pixels in (PIXELS, large):
        features = pair.pictures(pixels)
        assert torch.allclose(features.norm(dim=1), torch.ones(3))
        assert (features @ texts.T).argmax(1).tolist() == [2, 0, 1]


def test_the_segmenter_finds_where_something_is() -> None:
    found = Segmenter(*tinyworld.load_segmenter()).regions(PIXELS, ["sea", "night", "snow"])
    for region, scene, name in zip(found, SCENES, ("sea", "night", "snow"), strict=True):
        truth = torch.from_numpy(scene.masks[name])
        assert (region[0] & truth).sum() / (region[0] | truth).sum() > 0.8


def test_a_captioner_of_the_recipe_writes_one_text_for_each_picture(tmp_path, monkeypatch) -> None:
    tokenizer = build_tokenizer()
    model = seeded(lambda: build_captioner(tokenizer))
    folder = tmp_path / "captioner"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    monkeypatch.setattr(store, "_checked", lambda path: path)
    assert store.has_captioner()
    texts = Captioner(*store.load_captioner()).write(PIXELS)
    assert len(texts) == 3 and all(isinstance(text, str) for text in texts)
    monkeypatch.setattr(store, "WEIGHTS", tmp_path / "elsewhere")
    assert not store.has_captioner()
    with pytest.raises(FileNotFoundError, match="captioner: wanted a model in"):
        store.load_captioner()


@pytest.mark.parametrize("length", [20, 6])
def test_a_greedy_caption_is_the_one_that_transformers_generates(length: int) -> None:
    """The weights are so large that captions differ in text and in length."""
    tokenizer = build_tokenizer()
    model = seeded(lambda: build_captioner(tokenizer)).eval()
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pixels = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "position" not in name:
                weight.mul_(6)
        start = torch.full((8, 1), begin)
        options = {"attention_mask": torch.ones_like(start), "max_length": length, "do_sample": False}
        wanted = model.generate(pixel_values=pixels, input_ids=start, **options)
        found = greedy_captions(model, pixels, begin, end, length)
    assert torch.equal(found, wanted)
    assert len({tuple(row) for row in found.tolist()}) > 2
    assert length < 20 or len({*(found == end).sum(1).tolist()}) > 2


def test_pictures_of_any_precision_come_to_the_device_of_the_model() -> None:
    pair, tokenizer = store.load_clip()
    similarity = Similarity(pair.to("meta"), tokenizer)
    assert similarity.pictures(torch.rand(2, 3, 64, 64)).is_meta and similarity.texts(["a boat"]).is_meta
    segmenter, pixels = Segmenter(*store.load_segmenter()), torch.rand(2, 3, 32, 32)
    found = segmenter.regions(pixels.half(), ["a boat", "snow"])
    assert torch.equal(found, segmenter.regions(pixels.half().float(), ["a boat", "snow"]))


@pytest.mark.gpu
def test_models_on_the_cpu_see_pictures_of_a_gpu() -> None:
    pixels, texts = torch.rand(2, 3, 64, 64), ["a boat", "snow"]
    segmenter, captioner = Segmenter(*store.load_segmenter()), Captioner(*store.load_captioner())
    found = segmenter.regions(pixels.cuda(), texts)
    assert found.is_cuda and torch.equal(found.cpu(), segmenter.regions(pixels, texts))
    assert captioner.write(pixels.cuda()) == captioner.write(pixels)
