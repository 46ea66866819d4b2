"""Device functions that two kernels or more use, and the names that all kernels share.

``<op>_fwd_kernel``, ``<op>_bwd_kernel``: kernels; ``x_ptr``: pointer to the first element; ``stride_x_n``: elements
between neighbours in n; capitals: sizes (N images, P pixels, C channels, D columns, R rows, E elements); ``BLOCK_P``:
tile size, a power of two; ``HAS_SKIP``: flag. Inside: ``pid_n`` (which program), ``offs_c`` (indices), ``mask_c``
(whether they exist).
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(v):
    """Return 1 / (1 + exp(-v)) without overflow for any v."""
    e = tl.exp(-tl.abs(v))
    return tl.where(v >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def finite_rsqrt(v):
    """Return 1 / sqrt(v), NaN for an infinite sum of squares: zero would quietly leave only the bias of a norm."""
    return tl.where(v == float("inf"), float("nan"), tl.rsqrt(v))


@triton.jit
def unravel(pid, inner, middle):
    """Return (outer, middle, inner) indices of a program in a one-dimensional grid, which alone has no size limit."""
    return pid // (inner * middle), pid // inner % middle, pid % inner
