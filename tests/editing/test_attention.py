"""Prompt-to-prompt: exact for the same caption, a plain swap without mixing, and nothing left in the user's UNet."""

import pytest
import torch
from diffusers.models.attention_processor import (
    AttnAddedKVProcessor,
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
)

from diffexplain_fast.editing.alignment import OWN, Taken, aligned, words_of
from diffexplain_fast.editing.attention import _Mixing, mix
from diffexplain_fast.editing.editors import swap
from diffexplain_fast.editing.inversion import Inversion, invert
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.models.loading import load_pipeline
from tests.editing.test_exact import pictures
from tests.tiny import seeded, tiny_sd, tiny_unet

SOURCE, TARGETS = "a red boat", ["a blue boat", "a small red boat", "a red fish"]


def inverted(rows: int = 8, guidance: tuple[float, ...] = ()) -> tuple[LatentModels, Inversion]:
    models = LatentModels(load_pipeline(tiny_sd()), rows)
    clean = models.encode(pictures(1))
    return models, invert(
        models, ancestral_steps(models.pipeline.scheduler, 4), clean, SOURCE, seed=3, guidance=guidance
    )


def places(alignment: list[Taken]) -> list[object]:
    """Return the place of each token that takes over one place as it is, None for an own one, else all it takes."""
    short = {(): None} | {(place,): place for taken in alignment for place in taken.places}
    return [short.get(taken.places, taken) if taken.share == 1 else taken for taken in alignment]


def words(*ids: int | tuple[int, ...]) -> list[tuple[int, ...]]:
    return [word if isinstance(word, tuple) else (word,) for word in ids]


def test_words_are_aligned_by_what_they_say() -> None:
    for source, target, wanted in (
        (words(5, 6, 7), words(5, 8, 7), [0, 1, 2, 3, 4, 5, 6]),  # a word replaced by another one
        (words(5, 7), words(5, 8, 7), [0, 1, None, 2, 3, 4, 5]),  # a word added
        (words(5, 6, 7), words(5, 7), [0, 1, 3, 4, 5, 6, 6]),  # a word taken away
        (words(5), words(6, 7), [0, None, None, 2, 3]),
        (words(), words(), [0, 1, 2]),
    ):
        assert places(aligned(source, target, len(wanted))) == wanted


def test_a_word_of_another_number_of_tokens_shares_the_attention_of_the_word_it_replaces() -> None:
    # As the published mapper [[1, 0, 0, 0, ...], [0, 1/2, 1/2, 0, ...], [0, 0, 0, 1, ...]] of one word for two tokens.
    found = aligned(words(5, 6), words((8, 9), 6), 7)
    assert places(found) == [0, Taken((1,), 1 / 2), Taken((1,), 1 / 2), 2, 3, 4, 5]
    # And of two tokens for one word, which gets the sum of both.
    found = aligned(words((8, 9), 6), words(5, 6), 7)
    assert places(found) == [0, Taken((1, 2), 1.0), 3, 4, 5, 6, 6]
    found = aligned(words((1, 2), (3, 4, 5)), words((1, 2), (6, 7)), 9)
    assert places(found) == [0, 1, 2, Taken((3, 4, 5), 1 / 2), Taken((3, 4, 5), 1 / 2), 6, 7, 8, 8]
    assert places(aligned(words((1, 2)), words((3, 4)), 4)) == [0, 1, 2, 3]  # as many tokens: one by one


def test_padding_on_the_left_moves_the_words() -> None:
    found = aligned(words(5, 7), words(5, 8, 7), 8, left=True)
    assert places(found) == [1, 2, 3, 4, 5, None, 6, 7]
    assert places(aligned(words(5, 8, 7), words(5, 7), 8, left=True)) == [0, 0, 1, 2, 3, 4, 6, 7]


def test_tokens_are_put_together_to_words() -> None:
    pipe = tiny_sd()
    pipeline = load_pipeline(pipe)
    assert [len(word) for word in words_of(pipeline, "a goat, blue boat")] == [1, 4, 1, 1, 1]
    assert words_of(pipeline, "") == []
    vectors = torch.randn(2, pipe.text_encoder.config.hidden_size)
    pipe.load_textual_inversion({"<cat>": vectors})
    found = words_of(load_pipeline(pipe), "a <cat> red")
    assert [len(word) for word in found] == [1, 2, 1]
    pipe.load_textual_inversion({"<dog>": vectors})
    assert [len(word) for word in words_of(load_pipeline(pipe), "<cat> <dog> <cat>")] == [2, 2, 2]


def test_a_replaced_word_keeps_its_attention_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    models, inversion = inverted()
    whole: list[torch.Tensor] = []
    crossed = _Mixing._crossed

    def listening(self: _Mixing, scores: torch.Tensor) -> torch.Tensor:
        taken = crossed(self, scores)
        whole.append(torch.stack([scores[0, ..., 3], taken[0, ..., 3:7].sum(-1)]))  # "boat", and the letters of "goat"
        return taken

    monkeypatch.setattr(_Mixing, "_crossed", listening)
    mix(models, inversion, ["a red goat"], cross=1)
    assert whole and all(torch.allclose(boat, goat, rtol=1e-4) for boat, goat in whole)


def test_a_tokenizer_that_pads_on_the_left_is_mixed_by_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_sd()
    pipe.tokenizer.padding_side = "left"
    models, used = LatentModels(load_pipeline(pipe)), []
    clean = models.encode(pictures(1))
    inversion = invert(models, ancestral_steps(models.pipeline.scheduler, 3), clean, "a boat", seed=3)
    start = _Mixing.__init__
    monkeypatch.setattr(_Mixing, "__init__", lambda self, rows: (used.extend(rows), start(self, rows))[1])
    assert torch.allclose(mix(models, inversion, ["a boat"]), clean, rtol=0, atol=1e-4)
    mix(models, inversion, ["a red boat"])
    assert places(used[1]) == [*range(1, 14), None, 14, 15]  # padding and begin, "a", "red", "boat", end


@pytest.mark.parametrize("guidance", [(), (2.0, 2.0, 1.0, 1.0)])
def test_the_same_caption_gives_the_picture_back_and_no_mixing_is_a_swap(guidance: tuple[float, ...]) -> None:
    models, inversion = inverted(guidance=guidance)
    same = mix(models, inversion, [SOURCE, *TARGETS])
    assert torch.allclose(same[:1], inversion.samples[-1:], rtol=0, atol=1e-4)
    plain = swap(models, inversion, models.text(TARGETS))
    assert torch.allclose(mix(models, inversion, TARGETS, cross=0, own=0), plain, rtol=0, atol=1e-4)
    for mixed in (mix(models, inversion, TARGETS, cross=1, own=0), mix(models, inversion, TARGETS, cross=0, own=1)):
        assert not torch.allclose(mixed, plain, atol=1e-3)


def test_targets_do_not_touch_one_another_in_any_batch() -> None:
    models, inversion = inverted()
    together = mix(models, inversion, TARGETS)
    for i, caption in enumerate(TARGETS):
        assert torch.allclose(mix(models, inversion, [caption]), together[i : i + 1], rtol=0, atol=1e-4)
    small, same = inverted(rows=2)
    assert torch.allclose(mix(small, same, TARGETS), together, rtol=0, atol=1e-4)


def test_a_target_takes_the_maps_of_the_tokens_that_the_source_has() -> None:
    scores = torch.rand(4, 2, 5, 4)  # source, two targets, and a row that fills up the batch; heads, places, tokens
    one = [Taken((place,), 1.0) for place in range(4)]
    crossed = _Mixing([one, [one[0], OWN, one[1], one[2]]])._crossed(scores)
    assert torch.equal(crossed[0], scores[0])
    assert torch.equal(
        crossed[1], torch.stack([scores[0, ..., 0], scores[2, ..., 1], *scores[0, ..., 1:3].unbind(-1)], -1)
    )
    assert torch.equal(crossed[2, ..., 0], scores[0, ..., 0]) and torch.equal(crossed[2, ..., 1], scores[3, ..., 1])


def test_a_target_takes_its_share_of_the_maps_of_a_word() -> None:
    scores = torch.rand(3, 2, 5, 4)  # source, one target, and a row that fills up the batch
    both = Taken((1, 2), 1 / 3)
    crossed = _Mixing([[Taken((0,), 1.0), both, both, both]])._crossed(scores)
    share = (scores[0, ..., 1] + scores[0, ..., 2]) / 3
    assert torch.allclose(crossed[0], torch.stack([scores[0, ..., 0], share, share, share], -1))
    assert torch.equal(crossed[0], crossed[1])


class Sharper(AttnProcessor2_0):
    """Attention that gives more than diffusers'."""

    def __call__(self, attn, hidden_states, *args, **kwargs) -> torch.Tensor:
        """Return one and a half times as much."""
        return 1.5 * super().__call__(attn, hidden_states, *args, **kwargs)


@pytest.mark.parametrize("processor", [Sharper(), AttnAddedKVProcessor()])
def test_attention_of_your_own_is_refused(processor: object) -> None:
    models, inversion = inverted()
    models.pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(processor)
    message = (
        rf"models: wanted a UNet with diffusers' plain attention .*, got .*{type(processor).__name__}.* in mid_block"
    )
    with pytest.raises(ValueError, match=message):
        mix(models, inversion, TARGETS)


@pytest.mark.parametrize("processor", [AttnProcessor(), AttnProcessor2_0(), SlicedAttnProcessor(1)])
def test_plain_attention_of_diffusers_is_mixed(processor: AttnProcessor) -> None:
    models, inversion = inverted()
    models.pipeline.unet.set_attn_processor(processor)
    assert torch.allclose(mix(models, inversion, [SOURCE]), inversion.samples[-1:], rtol=0, atol=1e-4)


def test_attention_outside_of_transformer_blocks_is_refused() -> None:
    pipe = tiny_sd()
    blocks = {
        "down_block_types": ("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "AttnUpBlock2D"),
    }
    pipe.unet = seeded(lambda: tiny_unet(16, **blocks)).eval()
    models = LatentModels(load_pipeline(pipe))
    clean = models.encode(pictures(1))
    inversion = invert(models, ancestral_steps(models.pipeline.scheduler, 2), clean, SOURCE)
    assert torch.allclose(swap(models, inversion, models.text([SOURCE])), clean, rtol=0, atol=1e-4)
    message = r"models: wanted a UNet with attention in transformer blocks only, got down_blocks\.0.*AttnDownBlock2D"
    with pytest.raises(ValueError, match=message):
        mix(models, inversion, TARGETS)


def test_the_users_unet_keeps_its_attention_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    models, inversion = inverted()
    before = dict(models.pipeline.unet.attn_processors)
    mix(models, inversion, TARGETS)
    assert all(models.pipeline.unet.attn_processors[name] is one for name, one in before.items())
    monkeypatch.setattr(LatentModels, "predict", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mix(models, inversion, TARGETS)
    assert all(models.pipeline.unet.attn_processors[name] is one for name, one in before.items())


def test_what_is_wrong_with_an_argument_is_said() -> None:
    models, inversion = inverted()
    with pytest.raises(ValueError, match=r"cross: wanted from 0 to 1, got 1\.5"):
        mix(models, inversion, TARGETS, cross=1.5)
    with pytest.raises(ValueError, match="captions: wanted at least one"):
        mix(models, inversion, [])
    with pytest.raises(ValueError, match="inversion: wanted one with a caption"):
        mix(models, inversion._replace(caption=None), TARGETS)
    with pytest.raises(ValueError, match="models: wanted batches of at least 2 rows, got 1"):
        mix(LatentModels(models.pipeline, rows=1), inversion, TARGETS)
