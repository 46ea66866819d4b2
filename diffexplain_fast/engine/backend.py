"""Which backend runs the calls of a sampler, and the fast engine where it is chosen."""

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.engine.checks import check_backend, check_bytes, check_graphs, check_layout, check_numerics
from diffexplain_fast.engine.fast.engine import FastEngine
from diffexplain_fast.engine.graphs.policy import NO_CALL, Graphs
from diffexplain_fast.engine.memory.layout import ConvertedLayout
from diffexplain_fast.engine.memory.plan import parse_bytes
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.engine.uncompiled import slower_here
from diffexplain_fast.models.frozen import trainable

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Record = dict[str, str | int | float | None]


class Backend:
    """The choice between the fast engine and the reference, for models that may be replaced.

    Args:
        wanted: "fast", "reference" or "auto"; this and all other arguments are those of ``DifferentiableSampler``.

    Attributes:
        name: "fast" or "reference".
        reason: why that backend runs.
        engine: the fast engine over the models, None for the reference.
        cuda_graphs: True, False or "auto".

    Raises:
        TypeError: an option of the wrong kind.
        ValueError: an option that does not exist, or that the backend does not have.
    """

    def __init__(
        self,
        wanted: str,
        memory: int | str | None,
        savings: str | Collection[str],
        cuda_graphs: bool | str,
        deterministic: bool,
        retry_dtype: torch.dtype | None,
        host_memory: int | str | None,
        reserve: int | str | None,
        layout: str,
    ) -> None:
        check_backend(wanted, memory)
        self.cuda_graphs = check_graphs(cuda_graphs, wanted)
        check_numerics(deterministic, retry_dtype, wanted)
        check_bytes("host_memory", host_memory, wanted)
        check_bytes("reserve", reserve, wanted)
        check_layout(layout, wanted)
        self._read = partial(
            FastEngine,
            memory=memory,
            savings=savings,
            deterministic=deterministic,
            retry_dtype=retry_dtype,
            host_memory=host_memory,
        )
        # Only the fast engine has these options, even where it runs the user's own modules.
        self._needs_fast = parse_bytes(memory) is not None or deterministic or retry_dtype is not None
        self._wanted, self._reserve, self._converts = wanted, reserve, layout == "convert"
        self._converted: ConvertedLayout | None = None
        self._closed = False
        self.name, self.reason = wanted, "asked for"
        self.engine: FastEngine | None = None

    def take(self, unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> None:
        """Read models, and choose their backend.

        Args:
            unet: diffusers UNet.
            vae: diffusers AutoencoderKL.
        """
        if self._wanted == "reference":
            return
        self._put_back()
        if self._converts:
            trained = [*trainable(unet), *trainable(vae)]
            self._converted = ConvertedLayout(unet, vae.decoder, trained=trained)
        try:
            self._choose(unet, vae)
        except BaseException:
            self._put_back()
            raise
        if self.engine is None:
            self._put_back()

    def running(self) -> FastEngine | None:
        """Return the engine for a call, None for the reference.

        Raises:
            RuntimeError: after ``close``.
        """
        if self._closed:
            raise RuntimeError("the sampler is closed; make another one from unet, vae and scheduler")
        return self.engine

    def close(self) -> None:
        """Let go of the engine, and put the layout of the weights back; no call can follow."""
        self._closed, self.engine = True, None
        self._put_back()

    def _put_back(self) -> None:
        if self._converted is not None:
            self._converted.undo()
            self._converted = None

    def _choose(self, unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> None:
        # First, because the engine may refuse the models; the old models then still run.
        engine = self._read(unet, vae, graphs=Graphs(self.cuda_graphs), reserve=self._reserve)
        if self._wanted == "auto":
            # The reference has all steps in one graph, for which training seldom has enough memory.
            needs_fast = self._needs_fast or engine.trained
            obstacle = engine.unknown or slower_here(unet, vae)
            self.name = "reference" if obstacle and not needs_fast else "fast"
            self.reason = f"auto: {obstacle or 'the models are known to the fast engine'}"
        self.engine = engine if self.name == "fast" else None

    def single_calls(self, unet: "UNet2DConditionModel", vae: "AutoencoderKL", closely: bool) -> SingleCalls:
        """Return the models that calls of the sampler run through, for one call at a time; see there."""
        if (engine := self.running()) is not None:
            return SingleCalls(unet, vae, engine.models, closely, trains=True)
        return SingleCalls.own(unet, vae, self.reason, trains=True, closely=closely)

    def reserve(self, reserve: int | str | None) -> None:
        """Change how many bytes of ``memory`` the caller needs; see ``DifferentiableSampler.reserve``."""
        check_bytes("reserve", reserve, self.name)
        self._reserve = reserve
        if self.engine is not None:
            self.engine.reserve(parse_bytes(reserve, "reserve") or 0)

    def identity(self) -> Record:
        """Return the part of ``record`` that decides the images and their gradient, as it is before any call."""
        implementations = "" if self.engine is None else self.engine.implementations
        state = "" if self.engine is None else NO_CALL
        return {"implementations": implementations, "cuda_graphs": state, "retried_calls": 0}
