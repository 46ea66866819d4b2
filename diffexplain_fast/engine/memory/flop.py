"""FLOP of one operation, from the shapes of its arguments and results.

Only matrix products, convolutions and attention are counted, 2 per multiply-add, because no other operation has an
agreed number.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

Arguments = Sequence[Any]
"""Positional arguments of one of torch's operations: only its schema says which are tensors."""


def _product(arguments: Arguments, out: Tensor) -> int:
    """Return the FLOP of a linear layer with a weight [K, C], or of a convolution with one [K, C, kh, kw]."""
    return 2 * out.numel() * int(arguments[1].shape[1:].numel())


def _attention(arguments: Arguments, out: object, products: int, axis: int, first: int = 0) -> int:
    """Return the FLOP of some matrix products of attention; q is argument ``first``, k the next, N their ``axis``."""
    q, k = arguments[first : first + 2]
    return products * 2 * int(q.numel() * k.shape[axis])


def _text_attention(arguments: Arguments, out: object) -> int:
    """Return the same for a backward in which the images before ``first`` get no gradient of k and v."""
    whole, images, first = _attention(arguments, out, 1, 1, 1), len(arguments[1]), int(arguments[7])
    return 3 * whole + 2 * whole * (images - first) // max(images, 1)


# Backward: scores once more, then dv, dp, dq and dk; the first argument is the output's gradient.
_FORMULAS: dict[str, Callable[..., int]] = {
    "mkldnn::_convolution_pointwise": _product,
    "mkldnn::_linear_pointwise": _product,
    "aten::_scaled_dot_product_flash_attention_for_cpu": partial(_attention, products=2, axis=2),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": partial(_attention, products=5, axis=2, first=1),
    **{
        f"diffexplain_fast::attention_{way}{implementation}": formula
        for way, formula in (
            ("fwd", partial(_attention, products=2, axis=1)),
            ("bwd", partial(_attention, products=5, axis=1, first=1)),
        )
        for implementation in ("", "_triton")
    },
    "diffexplain_fast::attention_text_bwd_triton": _text_attention,
}
"""Formulas of the operations that torch's own table lacks."""


def flop(function: OpOverload, arguments: Arguments, options: Mapping[str, object], out: object) -> int | None:
    """Return the FLOP of an operation, None where it has no formula.

    Args:
        function: the ``OpOverload`` that ran.
        arguments: positional arguments of the operation.
        options: keyword arguments of the operation.
        out: result of the operation.
    """
    formula = _FORMULAS.get(function._schema.name)
    if formula is not None:
        return formula(arguments, out)
    known = flop_registry.get(function.overloadpacket)
    return None if known is None else int(known(*arguments, **options, out_val=out))
