"""Wrong arguments of single calls of UNet and decoder, each named before a model runs."""

import numpy as np
import pytest
import torch

from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.loading import load_pipeline
from tests.engine.test_single import given
from tests.tiny import tiny_sd, tiny_sdxl


def test_what_does_not_fit_is_named() -> None:
    pipe, xl = tiny_sd(), tiny_sdxl()
    calls = SingleCalls.of(pipe.unet, pipe.vae, "fast")
    sample, times, embeds, _ = given(load_pipeline(pipe))
    with torch.no_grad():
        every = calls.denoise(sample, torch.full((3,), 500), embeds)
        assert torch.equal(calls.denoise(sample, 500, embeds), every)
        assert torch.equal(calls.denoise(sample, torch.tensor(500), embeds), every)
    with pytest.raises(ValueError, match="timesteps: wanted one for each of 3 rows, got 2"):
        calls.denoise(sample, times[:2], embeds)
    with pytest.raises(ValueError, match="embeds: wanted one for each of 3 rows, got 1"):
        calls.denoise(sample, times, embeds[:1])
    with pytest.raises(ValueError, match="added: wanted None, because this UNet reads no conditions"):
        calls.denoise(sample, times, embeds, {"text_embeds": embeds[:, 0]})
    sample, times, embeds, added = given(load_pipeline(xl))
    for backend in ("fast", "reference"):
        calls = SingleCalls.of(xl.unet, xl.vae, backend)
        for some in (None, {"time_ids": added["time_ids"]}):
            with pytest.raises(ValueError, match='added: wanted "text_embeds" and "time_ids"'):
                calls.denoise(sample, times, embeds, some)


def wrong_calls(xl: bool):
    """Return changed arguments of a call of ``denoise`` or of ``decode``, and the message about each."""
    rows = torch.randn(3, 4, 8, 8)
    yield {"rows": [1.0]}, "rows: wanted a tensor"
    yield {"rows": rows.double()}, "rows: wanted dtype torch.float32"
    yield {"rows": rows[:, :3]}, r"rows: wanted shape \[R, 4, h, w\], got \[3, 3, 8, 8\]"
    yield {"rows": rows[0]}, r"rows: wanted shape \[R, 4, h, w\]"
    for times in (None, "5", True, ["1", "2", "3"], [[1, 2, 3]]):
        yield {"timesteps": times}, "timesteps: wanted a number, or a tensor of one for each of 3 rows"
    yield {"timesteps": torch.ones(3, 1)}, "timesteps: wanted a number"
    yield {"embeds": None}, "embeds: wanted a tensor"
    yield {"embeds": torch.randn(3, 5, 7)}, r"embeds: wanted shape \[3, L, "
    yield {"latents": [1.0]}, "latents: wanted a tensor"
    yield {"latents": rows[0]}, r"latents: wanted shape \[B, 4, h, w\]"
    yield {"latents": rows[:, :3]}, "latents: wanted shape"
    yield {"latents": rows.long()}, "latents: wanted a floating point dtype"
    if xl:
        yield {"added": [1]}, 'added: wanted "text_embeds" and "time_ids"'
        yield {"text_embeds": None}, r'added\["text_embeds"\]: wanted a tensor'
        yield {"text_embeds": torch.randn(3, 5)}, "added: wanted p numbers of text and n of sizes with p"
        yield {"time_ids": torch.ones(3, 5)}, "added: wanted p numbers of text and n of sizes with p"
        yield {"time_ids": torch.ones(2, 6)}, r'added\["time_ids"\]: wanted shape \[3, n\]'
    else:
        yield {"added": [1]}, "added: wanted None"


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_every_wrong_argument_is_named(make, backend: str) -> None:
    pipe = make()
    calls = SingleCalls.of(pipe.unet, pipe.vae, backend)
    rows, timesteps, embeds, added = given(load_pipeline(pipe))
    for changed, message in wrong_calls(xl=added is not None):
        some = dict(changed)
        more = {name: some.pop(name) for name in ("text_embeds", "time_ids") if name in some}
        given_added = {**added, **more} if more else added
        with pytest.raises((TypeError, ValueError), match=message):
            if "latents" in some:
                calls.decode(some["latents"])
            else:
                calls.denoise(**{"rows": rows, "timesteps": timesteps, "embeds": embeds, "added": given_added} | some)
    with torch.no_grad():
        whole = {"time_ids": added["time_ids"].long()} if added else {}
        usual = calls.denoise(rows, 5, embeds, {**added, **whole} if added else None)
        for times in (np.int64(5), np.float32(5), [5, 5, 5], np.array([5, 5, 5]), torch.tensor(5)):
            assert torch.equal(calls.denoise(rows, times, embeds, added), usual)
