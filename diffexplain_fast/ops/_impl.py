"""The choice of an implementation: one rule for all ops, and the reason for each choice."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from diffexplain_fast.errors import first_line, wrong_value
from diffexplain_fast.ops._load import CPP_MISSING, CUDA_MISSING

_P = ParamSpec("_P")
_R = TypeVar("_R")
HALF = (torch.float16, torch.bfloat16)
FLOATS = (torch.float32, *HALF)
TRITON_MISSING = "" if importlib.util.find_spec("triton") else "triton is not installed; pip install triton"


class Choice(NamedTuple):
    """A chosen implementation.

    Attributes:
        impl: "reference", "triton", "cuda", "cudnn", "cpp", "sdpa" or "torch".
        reason: why it was chosen.
    """

    impl: str
    reason: str


OFFERED: dict[str, tuple[str, ...]] = {
    "group_norm_silu": ("triton", "cuda", "cpp"),
    "layer_norm": ("triton", "cpp"),
    "geglu": ("triton", "cpp"),
    "attention": ("triton", "cudnn", "cpp", "sdpa", "xformers"),
    "guided_step": ("triton", "cuda", "cpp"),
    "interleave": ("triton", "cpp"),
}
"""The implementations of each op in addition to the reference, in the order in which "auto" prefers them."""


def choose(op: str, impl: str, device: torch.device, dtype: torch.dtype) -> Choice:
    """Return the implementation that runs for tensors of a device and dtype.

    Args:
        op: name of the op.
        impl: "auto", or the name of an implementation, which then runs or raises.
        device: device of the tensors.
        dtype: dtype of the tensors.

    Raises:
        ValueError: the op has no such implementation, or it cannot run here; the message has reason and remedy.
    """
    offered = OFFERED[op]
    if impl == "reference":
        return Choice("reference", "asked for")
    if impl == "auto":
        reasons = []
        for name in offered:
            if name in ("xformers", "cudnn"):
                continue  # The first is never faster than torch's own kernels; the sizes decide about the second.
            obstacle = _obstacle(name, device.type, dtype, automatic=True)
            if not obstacle:
                return Choice(name, "auto: the fastest that runs here")
            reasons.append(f"{name}: {obstacle}")
        return Choice("reference", "auto: " + "; ".join(reasons))
    if impl not in offered:
        raise wrong_value("impl", f"one of 'auto', 'reference', {', '.join(map(repr, offered))} for {op}", repr(impl))
    obstacle = _obstacle(impl, device.type, dtype, automatic=False)
    if obstacle:
        raise wrong_value("impl", f"an implementation of {op} that runs here", f"{impl!r}: {obstacle}")
    return Choice(impl, "asked for")


def _obstacle(impl: str, device: str, dtype: torch.dtype, automatic: bool) -> str:
    """Return why an implementation does not run on such tensors, or an empty string if it does."""
    if device == "meta" and not automatic:
        return ""  # only shapes matter there, for example when a plan is counted
    if impl == "cpp":
        return CPP_MISSING or ("" if device == "cpu" else "it needs tensors on the CPU; move them there")
    if impl == "sdpa":
        return ""
    if impl == "cudnn" and dtype not in HALF:
        return f"it computes in float16 and bfloat16, not in {dtype}; convert the tensors, or take 'sdpa'"
    if dtype not in FLOATS:
        return f"it computes in float32, float16 and bfloat16, not in {dtype}; convert the tensors, or take 'reference'"
    if impl == "triton":
        if TRITON_MISSING or device == "cuda":
            return TRITON_MISSING or (triton_failure(device) if automatic else "")
        return "" if not automatic and interpreted() else "it needs tensors on a CUDA device; move them there"
    if device != "cuda":
        return "it needs tensors on a CUDA device; move them there"
    if impl == "xformers":
        return "" if importlib.util.find_spec("xformers") else "xformers is not installed; pip install xformers"
    return CUDA_MISSING if impl == "cuda" else ""


@functools.cache
def triton_failure(device: str) -> str:
    """Return why Triton's kernels do not run on a kind of device, or an empty string: the smallest one is tried once.

    Triton needs a C compiler and a compatible driver at its first run; without them, "auto" chooses something else.
    """
    h = torch.linspace(-2, 2, 16, device=device).reshape(2, 8)
    try:
        from diffexplain_fast.kernels import geglu

        right = torch.allclose(geglu.geglu_fwd(h), h[:, :4] * torch.nn.functional.gelu(h[:, 4:]), atol=1e-5)
    except Exception as error:  # any error of a compiler, a linker or a driver
        return f"its kernels do not run here: {first_line(error)}"
    return "" if right else "its kernels compute wrong results here"


def interpreted() -> bool:
    """Return whether Triton runs its kernels in the interpreter on CPU tensors, as in the tests."""
    if "triton" not in sys.modules:
        import triton  # noqa: F401 - Triton was requested by name, so it may be imported
    return bool(sys.modules["triton"].knobs.runtime.interpret)


def raw(name: str, impl: str, reference: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the raw function of one direction of an op: the registered one, or the reference."""
    if impl == "reference":
        return reference
    return getattr(torch.ops.diffexplain_fast, f"{name}_triton" if impl == "triton" else name)
