"""A pipeline's modules as editing runs them: in batches of one shape and dtype, with the denoiser's rows counted.

An inversion is exact only for equal arithmetic: libraries choose their algorithms by the shape of a batch, and another
algorithm rounds otherwise. So every batch is filled up to the same number of rows, unless a caller saves them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from diffexplain_fast.editing.checks import check_latents, check_pixels, check_texts, rows_of
from diffexplain_fast.editing.texts import SizedText, Texts, sizes_of
from diffexplain_fast.engine.checks import check_modules
from diffexplain_fast.engine.single import SingleCalls, at_rest
from diffexplain_fast.errors import NonFiniteError, describe, wrong_type, wrong_value
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.xl import encoding_vae, latent_scale
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.targets import whole_number

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

ROWS = 8
"""Rows of one batch: as many as an inversion has steps by default, so that it needs a single call."""


class LatentModels:
    """Encoder, denoiser and decoder of a pipeline, without gradients; nothing in its modules is changed.

    Edits of the pipeline that show without a look at its weights are followed: other modules, hooks and options,
    weights that are changed in place, and adapters of PEFT that are added, switched off or merged; of tokenizers, new
    words and another side of padding. An edit of ``weight.data`` does not show: captions that were encoded before keep
    their text, and the denoiser may keep a part of its weights. Make another ``LatentModels`` after one.

    Args:
        pipeline: adapter from ``models.pipeline``.
        rows: rows of every batch, at least 1.
        one_shape: fill every batch up to them. If False, a batch in float32 on a CPU, where a filling row costs as much
            as any other, is not filled: latents of the tiny world change by 1e-6.
        calls: runs denoiser and decoder; None reads those of the pipeline when they are first needed, which copies
            weights that need another layout, see ``SingleCalls``.

    Attributes:
        pipeline: as it was given.
        denoiser_rows: rows that the denoiser has run since, those that fill up a batch included.
        rows: of a batch, at most.
        after_batch: called after every batch of the denoiser; None for nothing.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no rows, or modules that a sampler refuses too, such as a VAE whose configuration has a
            ``latents_mean`` of another length than its latents.
    """

    def __init__(
        self, pipeline: Pipeline, rows: int = ROWS, one_shape: bool = True, calls: SingleCalls | None = None
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise wrong_type("pipeline", "an adapter, such as Explainer.pipeline", pipeline)
        if whole_number("rows", rows) < 1:
            raise wrong_value("rows", "at least 1", rows)
        check_modules(pipeline.unet, pipeline.vae)
        self.pipeline, self.denoiser_rows, self.rows = pipeline, 0, rows
        self._one_shape, self._calls = one_shape, calls
        self.after_batch: Callable[[], None] | None = None
        self._texts = Texts(pipeline)

    @property
    def calls(self) -> SingleCalls:
        """Denoiser and decoder, read when they are first needed."""
        if self._calls is None:
            self._calls = SingleCalls.of(self.pipeline.unet, self.pipeline.vae, closely=False)
        return self._calls

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        count: int = self.pipeline.unet.config.in_channels
        return count

    @contextmanager
    def own_modules(self) -> Iterator[None]:
        """Let the denoiser run as the pipeline's own module, which the caller changes for some calls."""
        own = SingleCalls.own(self.pipeline.unet, self.pipeline.vae, "asked for", closely=False)
        before, self._calls = self._calls, own
        try:
            yield
        finally:
            self._calls = before

    @without_autocast
    @torch.no_grad()
    def text(self, captions: Sequence[str | None]) -> SizedText:
        """Return what the denoiser reads for captions, one row each; each caption is encoded once, see the class.

        Of Stable Diffusion XL a row without a caption has the negative sizes of the call, where there are some.

        Args:
            captions: at least one; None is the unconditional row.

        Raises:
            TypeError: no sequence of texts and None.
            ValueError: no caption, or one that is longer than the context.
        """
        check_texts("captions", captions, none_too=True)
        return self._texts.of(captions)

    @without_autocast
    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return latents [B, c, h, w] of pixels [B, 3, H, W] in [0, 1], in float32: the mean that the VAE gives.

        They have the scale that the denoiser reads. A float16 VAE of Stable Diffusion XL with ``force_upcast`` encodes
        in float32, as diffusers' pipeline of pictures and texts lets it do. An autoencoder without a distribution, such
        as ``AutoencoderTiny``, gives its latents.

        Raises:
            TypeError: no tensor.
            ValueError: no picture, pixels of another shape or not finite, or a VAE that does not encode pictures.
            NonFiniteError: latents that are not finite.
        """
        check_pixels(pixels)
        unet, own = self.pipeline.unet, self.pipeline.vae
        vae = encoding_vae(unet, own)
        with at_rest(vae):
            latents = latent_scale(unet, own).of_vae(self._batched(lambda rows: _encoded(vae, rows), vae, pixels))
        if not bool(latents.isfinite().all()):
            dtype = next(vae.parameters()).dtype
            wanted = (
                "finite latents of pictures (an autoencoder may overflow in float16, and not in bfloat16 or float32)"
            )
            raise NonFiniteError(describe("vae", wanted, f"NaN or infinite ones in {dtype}"))
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return pixels [B, 3, H, W] in float32, about [0, 1] and not clamped, of latents [B, c, h, w].

        Raises:
            TypeError: no tensor.
            ValueError: latents of another shape or dtype.
        """
        check_latents("latents", latents, self.pipeline.vae.config.latent_channels)
        return self._batched(self.calls.decode, self.pipeline.vae, latents, cast=False)

    @torch.no_grad()
    def predict(self, sample: Tensor, timesteps: Sequence[float], text: Conditioning) -> Tensor:
        """Return the denoiser's output [B, c, h, w] in float32.

        Args:
            sample: noisy latents [B, c, h, w].
            timesteps: [B].
            text: B rows, or 1 row for all; what is not from ``text`` has the sizes of captions.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: latents of another shape, or another number of timesteps or texts than of latents.
        """
        unet = self.pipeline.unet
        count = len(check_latents("sample", sample, self.channels))
        if rows_of("text", text) not in (1, count):
            raise wrong_value("text", f"{count} texts, one for each latent, or one for all", rows_of("text", text))
        if len(timesteps) != count:
            raise wrong_value("timesteps", f"{count}, one for each latent", len(timesteps))
        embeds = text.prompt_embeds.expand(count, -1, -1)
        times = torch.tensor(list(timesteps), device=sample.device)
        more = (
            []
            if text.pooled is None
            else [part.expand(count, -1) for part in (text.pooled, sizes_of(self.pipeline, text))]
        )

        def run(rows: Tensor, at: Tensor, embeds: Tensor, *more: Tensor) -> Tensor:
            added = {"text_embeds": more[0], "time_ids": more[1]} if more else None
            self.denoiser_rows += len(rows)
            found = self.calls.denoise(rows, at, embeds, added)
            if self.after_batch is not None:
                self.after_batch()
            return found

        return self._batched(run, unet, sample, times, embeds, *more)

    def counted(self, count: int) -> int:
        """Return the rows that the denoiser runs for so many at once, those that fill up a batch included."""
        last = count % self.rows
        return count - last + (self._shape(last, self.pipeline.dtype, self.pipeline.device) if last else 0)

    def _batched(
        self, run: Callable[..., Tensor], module: nn.Module, rows: Tensor, *others: Tensor, cast: bool = True
    ) -> Tensor:
        """Run a function of [n, ...] on [B, ...] in batches; what fills up a batch is dropped."""
        dtype, found = next(module.parameters()).dtype, []
        for start in range(0, len(rows), self.rows):
            parts = [part[start : start + self.rows] for part in (rows.to(dtype) if cast else rows, *others)]
            count = len(parts[0])
            missing = self._shape(count, dtype, rows.device) - count
            parts = [filled(part, missing) for part in parts] if missing else parts
            found.append(run(*parts)[:count].float())
        return torch.cat(found)

    def _shape(self, count: int, dtype: torch.dtype, device: torch.device) -> int:
        if self._one_shape or dtype != torch.float32 or device.type != "cpu":
            return self.rows
        return count


def check_models(models: object) -> None:
    """Refuse anything but ``LatentModels``."""
    if not isinstance(models, LatentModels):
        raise wrong_type("models", "editing.LatentModels(pipeline)", models)


def _encoded(vae: "AutoencoderKL", pixels: Tensor) -> Tensor:
    """Return the mean of what an autoencoder gives for pixels, or its latents where it gives no distribution."""
    found = vae.encode(pixels * 2 - 1)
    if hasattr(found, "latent_dist"):
        return found.latent_dist.mean
    if hasattr(found, "latents"):
        return found.latents
    raise wrong_value("vae", "one that encodes pictures, such as AutoencoderKL or AutoencoderTiny", type(vae).__name__)


def filled(rows: Tensor, missing: int) -> Tensor:
    """Return rows followed by copies of the last of them."""
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def latent_mask(mask: Tensor, size: Sequence[int], grow: int = 1) -> Tensor:
    """Return a mask of latents [B, 1, h, w] of 0 and 1: a latent counts if one of its pixels does.

    Args:
        mask: pixels [B, 1, H, W], bool or 0 to 1.
        size: height and width of the latents.
        grow: latents by which it is grown on every side, at least 0.
    """
    found = torch.nn.functional.adaptive_max_pool2d(mask.float(), tuple(size))
    return grown(found, grow)


def grown(mask: Tensor, by: int) -> Tensor:
    """Return a mask [B, 1, H, W] grown by so many pixels on every side."""
    return torch.nn.functional.max_pool2d(mask.float(), 2 * by + 1, 1, by) if by else mask.float()


def pasted(original: Tensor, edited: Tensor, mask: Tensor, grow: int = 2) -> Tensor:
    """Return the edited picture where a mask is, and the original's own pixels elsewhere.

    Args:
        original: pixels [B or 1, 3, H, W].
        edited: pixels [B, 3, H, W].
        mask: [B, 1, H, W], bool or 0 to 1; it is grown and its edge made soft by one pixel.
        grow: pixels, at least 0.
    """
    # Grown at the border too, so that the edge of the picture is no edge of the mask.
    soft = torch.nn.functional.avg_pool2d(pad(grown(mask, grow), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return soft * edited + (1 - soft) * original
