"""Editing given pictures with a diffusion pipeline: reconstruction and edits; no classifier is known here."""

from typing import TYPE_CHECKING

from diffexplain_fast.lazy import lazily

if TYPE_CHECKING:
    from diffexplain_fast.editing.attention import mix
    from diffexplain_fast.editing.editors import guide, inpaint, swap
    from diffexplain_fast.editing.inversion import invert
    from diffexplain_fast.editing.latents import LatentModels
    from diffexplain_fast.editing.reconstruction import Reconstruction, reconstruct
    from diffexplain_fast.editing.reversible import Reversal, invert_reversibly, swap_reversibly

# fmt: off
__all__ = [
    "LatentModels", "Reconstruction", "Reversal", "guide", "inpaint", "invert", "invert_reversibly", "mix",
    "reconstruct", "swap", "swap_reversibly",
]
# fmt: on

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
        "mix": "editing.attention",
        "Reversal": "editing.reversible",
        "invert_reversibly": "editing.reversible",
        "swap_reversibly": "editing.reversible",
    },
)
