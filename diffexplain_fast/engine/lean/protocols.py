"""The contract of the models that an engine runs, whether lean or the user's own modules."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from diffexplain_fast.engine.lean.levels import Level


class TextKeys(NamedTuple):
    """Keys and values of one cross-attention, projected from the text: [R, L, heads, d] each."""

    k: Tensor
    v: Tensor


def pairs_of(tensors: Sequence[Tensor]) -> list[TextKeys]:
    """Return keys and values of a flat list k, v, k, v, ..., the form in which autograd sees the text."""
    return [TextKeys(k, v) for k, v in zip(tensors[::2], tensors[1::2], strict=True)]


def flat_list(pairs: Iterable[TextKeys]) -> list[Tensor]:
    """Return the flat list of pairs; see ``pairs_of``."""
    return [tensor for pair in pairs for tensor in pair]


class EngineModel(Protocol):
    """Attributes that denoiser and decoder have in common."""

    @property
    def levels(self) -> Sequence[str]:
        """Names of the possible storage levels, the most kept first; ("step",) for the user's own modules."""

    @property
    def reason(self) -> str:
        """Why the model runs through the user's own modules, empty for a lean model."""

    @property
    def implementations(self) -> str:
        """Which implementation of each op runs, empty for the user's own modules."""


class Denoiser(EngineModel, Protocol):
    """A UNet as a function of latents, text and time."""

    def project(self, embeds: Tensor) -> list[Tensor]:
        """Return the text in the form that the steps read, R rows each, computed once for all steps.

        Args:
            embeds: prompt embeddings [R, L, width].
        """

    def shifts(self, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[list[Tensor]]:
        """Return for every step the tensors that depend on its time, equally many for each step.

        Args:
            timesteps: [N].
            added: Stable Diffusion XL's conditions of R rows, None for other models.
        """

    def __call__(self, sample: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level) -> Tensor:
        """Return the denoiser's output [R, c, h, w].

        Args:
            sample: latents [B, c, h, w], R = B or 2B.
            text: from ``project``, R rows each.
            shifts: one step of ``shifts``.
            level: says which tensors are kept for the backward.
        """


class Decoder(EngineModel, Protocol):
    """A VAE decoder as a function of clean latents."""

    def __call__(self, latents: Tensor, level: Level) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped, of clean latents [B, c, h, w].

        Args:
            latents: clean latents, in the scale of the denoiser.
            level: says which tensors are kept for the backward.
        """
