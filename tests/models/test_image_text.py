"""Local vision-language models: a tiny LLaVA of random weights runs end to end, and a fake one answers well."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    BatchFeature,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import diffexplain_fast as dx
from tests.tiny import seeded

WORDS = ["<unk>", "<pad>", "</s>", "<image>", "list", "json", "user", "sea", "sky", "cat", "dog", "red", "blue"]
TEMPLATE = (
    "{% for m in messages %}user {% for c in m.content %}"
    "{% if c.type == 'image' %}<image> {% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
)
PICTURES = [Image.new("RGB", (9, 7), "red"), torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))]
GOOD = {"domain": "pets", "categories": {"animal": ["cat", "dog"]}}


def tiny_processor(template: str | None = TEMPLATE) -> LlavaProcessor:
    vocabulary = models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>")
    core = Tokenizer(vocabulary)
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    size = {"height": 8, "width": 8}
    pictures = CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False)
    return LlavaProcessor(
        pictures, tokenizer, patch_size=4, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    )  # fmt: skip


def tiny_llava() -> LlavaForConditionalGeneration:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = LlamaConfig(
        **sizes, vocab_size=len(WORDS), max_position_embeddings=256, pad_token_id=1, eos_token_id=2, bos_token_id=None
    )
    sight = CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    config = LlavaConfig(vision_config=sight, text_config=text, image_token_index=3)
    return seeded(lambda: LlavaForConditionalGeneration(config)).eval()


def test_a_model_of_random_weights_answers_no_json_and_that_is_said() -> None:
    model = dx.ImageTextToText(tiny_llava(), tiny_processor(), tokens=6)
    answer = model(PICTURES, "list json")
    assert answer and set(answer.split()) <= {*WORDS} and len(answer.split()) <= 6
    assert model(PICTURES, "list json") == answer
    with pytest.raises(ValueError, match=r"model: wanted an answer with the JSON of a taxonomy, got '\w") as error:
        dx.Taxonomy.propose(PICTURES, model)
    assert model(PICTURES, "list json").split()[0] in WORDS and len(str(error.value)) < 400


def test_the_answer_depends_on_every_picture_and_on_the_question() -> None:
    processor = tiny_processor()
    model = dx.ImageTextToText(tiny_llava(), processor, tokens=1)
    given = [model._given([dx_picture(image) for image in some], "list") for some in (PICTURES, PICTURES[:1])]
    assert [len(one["pixel_values"]) for one in given] == [2, 1]
    assert [(one["input_ids"] == 3).sum().item() for one in given] == [2 * 4, 4]  # four patches each
    assert processor.tokenizer.decode(given[0]["input_ids"][0][-1:]) == "list"


def dx_picture(image: Any) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.new("RGB", (8, 8))


def test_a_folder_is_read_and_answers_as_the_model_did(tmp_path: Path) -> None:
    model, processor = tiny_llava(), tiny_processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    wanted = dx.ImageTextToText(model, processor, tokens=4)(PICTURES, "sea sky")
    assert dx.ImageTextToText.from_pretrained(tmp_path, tokens=4)(PICTURES, "sea sky") == wanted
    with pytest.raises(FileNotFoundError, match=r"folder: wanted a folder with config.json"):
        dx.ImageTextToText.from_pretrained(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="folder: wanted an image-text-to-text model"):
        dx.ImageTextToText.from_pretrained(tmp_path)


class Fake(nn.Module):
    """Says the same tokens always, after what it was given."""

    def __init__(self, said: list[int]) -> None:
        super().__init__()
        self.weight, self.said = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16)), said
        self.config, self.seen = type("Config", (), {"is_encoder_decoder": False}), {}

    def generate(self, input_ids: Tensor, **given: Any) -> Tensor:
        """Return [1, tokens]."""
        self.seen = given
        return torch.cat([input_ids, torch.tensor([self.said])], 1)


class Speller:
    """A processor without a chat template, whose tokens are letters."""

    def __call__(self, images: list[Image.Image], text: str, return_tensors: str) -> BatchFeature:
        """Return letters, and the size of each picture."""
        sizes = torch.tensor([image.size for image in images]).float()
        return BatchFeature({"input_ids": torch.tensor([[*map(ord, text)]]), "pixel_values": sizes})

    def batch_decode(self, ids: Tensor, skip_special_tokens: bool) -> list[str]:
        """Return text."""
        return ["".join(map(chr, row)) for row in ids.tolist()]


def test_a_model_that_answers_with_json_proposes_a_taxonomy() -> None:
    fake = Fake([*map(ord, f"Sure: {json.dumps(GOOD)}")])
    model = dx.ImageTextToText(fake, Speller())  # type: ignore[arg-type]
    assert dx.Taxonomy.propose(PICTURES, model) == dx.Taxonomy.from_json(GOOD)
    assert fake.seen["pixel_values"].dtype == torch.bfloat16 and fake.seen["pixel_values"].tolist() == [[9, 7], [8, 8]]
    assert fake.seen["max_new_tokens"] == 1024 and fake.weight.requires_grad
    assert model.captions(PICTURES, "?") == [f"Sure: {json.dumps(GOOD)}"] * 2


def test_what_is_wrong_is_said() -> None:
    fake = Fake([65])
    for arguments, message in (
        ((3, Speller()), "model: wanted a model of transformers that generates"),
        ((fake, 3), "processor: wanted the processor of the model"),
        ((fake, Speller(), 1.5), "tokens: wanted a whole number"),
        ((fake, Speller(), 0), "tokens: wanted at least 1, got 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            dx.ImageTextToText(*arguments)
    model = dx.ImageTextToText(fake, Speller())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images: wanted PIL images, or pixels"):
        model(["a picture"], "?")
    fake.generate = _refuses  # type: ignore[method-assign]
    model = dx.ImageTextToText(fake, Speller())  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"images: wanted pictures and a question that the model takes, got 1 pictures"
    ):
        model(PICTURES[:1], "?")


def _refuses(**_: Any) -> Tensor:
    raise ValueError("too many tokens")
