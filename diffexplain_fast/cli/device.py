"""The device and the dtype that ``--device`` and ``--dtype`` name."""

import torch

from diffexplain_fast.environment import default_device, devices_here
from diffexplain_fast.errors import unknown_name, wrong_value

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def chosen_device(name: str | None) -> torch.device:
    """Return the device of a name; without a name, the GPU if there is one.

    Args:
        name: "cpu", "cuda", or "cuda:" with a number.

    Raises:
        ValueError: another name, or a GPU that torch does not find; the message names ``--device`` and the devices.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise wrong_value("--device", devices_here(), repr(name)) from None
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count()):
        return device
    raise wrong_value("--device", devices_here(), repr(name))


def chosen_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name: "float32", "bfloat16" or "float16".

    Args:
        name: one of the three.

    Raises:
        UnknownNameError: another name.
    """
    if name not in _DTYPES:
        raise unknown_name("dtype", name, _DTYPES)
    return _DTYPES[name]
