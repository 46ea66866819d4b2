"""Captions: encoded once, again after an edit of text encoder or tokenizer, and each row with its own sizes of XL."""

from collections.abc import Callable

import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from diffexplain_fast import editing
from diffexplain_fast.editing.inversion import guided
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.likelihood import denoiser_output
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd, tiny_sdxl

SIZES = {"negative_original_size": (640, 640), "negative_target_size": (8, 8)}


def _add_adapter(pipe: StableDiffusionPipeline) -> None:
    low_rank = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    pipe.text_encoder.add_adapter(low_rank)


def _fuse(pipe: StableDiffusionPipeline) -> None:
    pipe.fuse_lora(components=["text_encoder"], lora_scale=2.0)


def _scale_words(pipe: StableDiffusionPipeline) -> None:
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight.mul_(3)


def _pad_left(pipe: StableDiffusionPipeline) -> None:
    pipe.tokenizer.padding_side = "left"


def _learn_a_word(pipe: StableDiffusionPipeline) -> None:
    pipe.tokenizer.add_tokens(["boat"])
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))


@pytest.mark.parametrize("edit", [_add_adapter, _fuse, _scale_words, _pad_left, _learn_a_word])
def test_a_caption_is_encoded_again_after_an_edit(edit: Callable[[StableDiffusionPipeline], None]) -> None:
    pipe = tiny_sd()
    if edit is _fuse:
        _add_adapter(pipe)
    models = LatentModels(load_pipeline(pipe))
    before = [models.text([caption]).prompt_embeds for caption in ("a boat", None)]
    edit(pipe)
    with torch.no_grad():
        wanted = pipe.encode_prompt("a boat", "cpu", 1, False)[0]
    found = models.text(["a boat"]).prompt_embeds
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5) and not torch.allclose(found, before[0], atol=1e-3)
    if edit is not _learn_a_word:
        assert not torch.allclose(models.text([None]).prompt_embeds, before[1], atol=1e-3)


def test_a_caption_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    models, encoded = LatentModels(load_pipeline(tiny_sdxl())), []
    encode = models.pipeline.encode_text
    monkeypatch.setattr(
        models.pipeline, "encode_text", lambda *given, **more: (encoded.append(1), encode(*given, **more))[1]
    )
    for _ in range(3):
        models.text(["a boat", None, "a boat", "a fish"])
    assert len(encoded) == 3


def _output(
    pipe: StableDiffusionXLPipeline, text: Conditioning, sample: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    added = {"text_embeds": text.pooled, "time_ids": ids}
    with torch.no_grad():
        return pipe.unet(sample, 500, encoder_hidden_states=text.prompt_embeds, added_cond_kwargs=added).sample


def test_a_row_without_a_caption_has_the_negative_sizes_of_the_call() -> None:
    pipe = tiny_sdxl()
    pipeline = load_pipeline(pipe, call_options=SIZES)
    models = LatentModels(pipeline)
    sample = torch.randn(1, *pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
    text, none = models.text(["a boat"]), models.text([None])
    sizes = pipeline.extras(text, 1)
    own, away = _output(pipe, text, sample, sizes["time_ids"]), _output(pipe, none, sample, sizes["negative_time_ids"])
    assert torch.allclose(guided(models, sample, [500], text, 3.0), away + 3 * (own - away), rtol=0, atol=1e-4)
    assert not torch.allclose(away, _output(pipe, none, sample, sizes["time_ids"]), atol=1e-3)
    mixed = models.predict(sample.repeat(2, 1, 1, 1), [500, 500], models.text([None, "a boat"]))
    assert torch.allclose(mixed, torch.cat([away, own]), rtol=0, atol=1e-4)
    for row, wanted in ((none, away), (text, own)):
        with torch.no_grad():
            said = denoiser_output(pipeline, sample, torch.tensor([500]), row)
        assert torch.allclose(said, wanted, rtol=0, atol=1e-4)
    assert torch.allclose(models.predict(sample, [500], pipeline.encode_text(["a boat"])), own, rtol=0, atol=1e-4)


def test_negative_sizes_count_in_guided_edits_only_and_keep_them_exact() -> None:
    found = []
    for options in (SIZES, None):
        models = LatentModels(load_pipeline(tiny_sdxl(), call_options=options))
        table = ancestral_steps(models.pipeline.scheduler, 3)
        clean = torch.randn(1, *models.pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
        inversions = [editing.invert(models, table, clean, "a boat", guidance=scales) for scales in ((), (3.0,) * 3)]
        back = editing.swap(models, inversions[1], models.text(["a boat"]))
        assert torch.allclose(back, clean, rtol=0, atol=1e-4)
        found.append([inversion.residuals for inversion in inversions])
    assert torch.equal(found[0][0], found[1][0]) and not torch.allclose(found[0][1], found[1][1], atol=1e-3)
