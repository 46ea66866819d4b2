"""Memory inside of a convolution on the CPU: where oneDNN does not take a dtype, torch copies the picture into columns.

Each tap of the kernel is a row of a matrix of the pixels that it meets, for all pictures at once: nine times the input
for a 3 x 3 kernel. The matrix is allocated and freed inside of the operation, so nothing outside sees it.
"""

import torch
from torch import Tensor
from torch._ops import OpOverload

from diffexplain_fast.engine.memory.flop import Arguments

_ASKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def column_dtypes(device: torch.device) -> frozenset[torch.dtype]:
    """Return the dtypes whose convolutions torch computes through columns on a device: none but on the CPU.

    torch itself chooses for a picture that is not small; of small ones it computes more in this way, in little memory.
    """
    choose = getattr(torch._C, "_select_conv_backend", None)
    if device.type != "cpu" or choose is None:
        return frozenset()

    def chosen(dtype: torch.dtype) -> str:
        one = torch.empty(1, dtype=dtype, device="cpu")
        picture, weight = one.expand(16, 16, 64, 64), one.expand(16, 16, 3, 3)
        return str(choose(picture, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, None))

    return frozenset(dtype for dtype in _ASKED if "Slow" in chosen(dtype))


def column_bytes(func: OpOverload, args: Arguments, out: object, dtypes: frozenset[torch.dtype]) -> int:
    """Return the bytes of the columns inside of an operation, 0 for one without columns.

    The backward of a convolution that torch computes has none that last; that of the engine is a convolution itself.

    Args:
        func: the operation.
        args: its arguments; tensors on the meta device stand for some on the CPU.
        out: its result.
        dtypes: from ``column_dtypes``.
    """
    if func is not torch.ops.aten.convolution.default or args[0].dtype not in dtypes or not isinstance(out, Tensor):
        return 0
    image, weight, _, stride, padding, _, transposed = args[:7]
    if image.device.type not in ("cpu", "meta"):
        return 0
    taps = int(weight.shape[2:].numel())
    if not transposed and taps == 1 and {*stride} == {1} and {*padding} == {0}:
        return 0  # the input itself is the matrix
    places = image if transposed else out
    return int(len(image) * places.shape[2:].numel() * weight.shape[1] * taps * image.element_size())
