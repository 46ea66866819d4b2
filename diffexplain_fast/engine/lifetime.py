"""The life of a sampler: it belongs to one process, leaves memory for its caller, and can be closed."""

from typing import NoReturn, Self

from diffexplain_fast.engine.backend import Backend
from diffexplain_fast.errors import describe


class Closing:
    """A sampler that can be closed, or used in a ``with`` statement, and is neither pickled nor copied."""

    _backend: Backend

    def reserve(self, reserve: int | str | None) -> None:
        """Change how many bytes of ``memory`` the caller needs; later calls plan with this number.

        Args:
            reserve: bytes as in the class, None for nothing.

        Raises:
            TypeError: ``reserve`` is neither a number nor text.
            ValueError: no number of bytes, or a backend that plans no memory.
        """
        self._backend.reserve(reserve)

    def close(self) -> None:
        """Let go of the models, and give their weights the layout that they had; the sampler cannot be called again."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Refuse a pickle or copy, because packed weights, kernels and recordings belong to one process and device."""
        wanted = "a sampler made where it is used, from unet, vae and scheduler, which can be sent and copied"
        raise TypeError(describe("sampler", wanted, "pickle or copy of a DifferentiableSampler"))
