"""Prompt-to-prompt: exact for the same caption, a plain swap without mixing, and nothing left in the user's UNet."""

import pytest
import torch

from diffexplain_fast.editing.attention import _Mixing, aligned, mix
from diffexplain_fast.editing.editors import swap
from diffexplain_fast.editing.inversion import Inversion, invert
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.models.loading import load_pipeline
from tests.editing.test_exact import pictures
from tests.tiny import tiny_sd

SOURCE, TARGETS = "a red boat", ["a blue boat", "a small red boat", "a red fish"]


def inverted(rows: int = 8, guidance: tuple[float, ...] = ()) -> tuple[LatentModels, Inversion]:
    models = LatentModels(load_pipeline(tiny_sd()), rows)
    clean = models.encode(pictures(1))
    return models, invert(
        models, ancestral_steps(models.pipeline.scheduler, 4), clean, SOURCE, seed=3, guidance=guidance
    )


def test_tokens_are_aligned_by_what_they_say() -> None:
    assert aligned([5, 6, 7], [5, 8, 7], 7) == [0, 1, 2, 3, 4, 5, 6]  # a word replaced by another one
    assert aligned([5, 7], [5, 8, 7], 7) == [0, 1, -1, 2, 3, 4, 5]  # a word added
    assert aligned([5, 6, 7], [5, 7], 7) == [0, 1, 3, 4, 5, 6, 6]  # a word taken away
    assert aligned([5], [6, 7], 5) == [0, -1, -1, 2, 3]
    assert aligned([], [], 3) == [0, 1, 2]


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
    crossed = _Mixing([[0, 1, 2, 3], [0, -1, 1, 2]])._crossed(scores)
    assert torch.equal(crossed[0], scores[0])
    assert torch.equal(
        crossed[1], torch.stack([scores[0, ..., 0], scores[2, ..., 1], *scores[0, ..., 1:3].unbind(-1)], -1)
    )
    assert torch.equal(crossed[2, ..., 0], scores[0, ..., 0]) and torch.equal(crossed[2, ..., 1], scores[3, ..., 1])


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
