"""Editing given pictures with a diffusion pipeline: reconstruction and edits; no classifier is known here."""

from typing import TYPE_CHECKING

from diffexplain_fast.lazy import lazily

if TYPE_CHECKING:
    from diffexplain_fast.editing.editors import guide, inpaint, swap
    from diffexplain_fast.editing.inversion import invert
    from diffexplain_fast.editing.latents import LatentModels
    from diffexplain_fast.editing.reconstruction import Reconstruction, reconstruct

__all__ = ["LatentModels", "Reconstruction", "guide", "inpaint", "invert", "reconstruct", "swap"]

__getattr__ = lazily(
    __name__,
    {
        "LatentModels": "editing.latents",
        "Reconstruction": "editing.reconstruction",
        "reconstruct": "editing.reconstruction",
        "guide": "editing.editors",
        "inpaint": "editing.editors",
        "swap": "editing.editors",
        "invert": "editing.inversion",
    },
)
