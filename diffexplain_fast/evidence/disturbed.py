"""Pictures with changes that change nothing of what they show: a JPEG, and a shift."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_QUALITY, _SHIFT = 75, 2
"""Of the JPEG, and pixels of the shift."""


def as_jpeg(levels: Tensor) -> Tensor:
    """Return pictures uint8 [B, 3, H, W] after a JPEG of quality 75."""
    found = []
    for picture in levels:
        buffer = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, format="JPEG", quality=_QUALITY)
        with Image.open(io.BytesIO(buffer.getvalue()), formats=["JPEG"]) as image:
            found.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(found)


def shifted(levels: Tensor) -> Tensor:
    """Return pictures moved by two pixels to the right and down; the edge fills what comes in."""
    rows = torch.arange(levels.shape[2]).sub(_SHIFT).clamp_min(0)
    columns = torch.arange(levels.shape[3]).sub(_SHIFT).clamp_min(0)
    return levels[:, :, rows][:, :, :, columns]
