"""Device functions that at least two kernels use, and the names that all kernels share.

``<op>_fwd_kernel``, ``<op>_bwd_kernel``: kernels; ``x_ptr``: pointer to the first element; ``stride_x_n``: elements
between neighbours in n; capitals: sizes (N images, P pixels, C channels, D columns, R rows, E elements); ``BLOCK_P``:
tile size, a power of two; ``HAS_SKIP``: flag. In the body: ``pid_n`` (index of the program), ``offs_c`` (indices of
elements), ``mask_c`` (True for the elements that exist). A shape beside a pointer is the shape of its tensor, a shape
beside a load or a product is the shape of the tile.
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
    """Return 1 / sqrt(v), or NaN for an infinite v: with 0, a norm would silently return only its bias."""
    return tl.where(v == float("inf"), float("nan"), tl.rsqrt(v))


@triton.jit
def unravel(pid, inner, middle):
    """Return (outer, middle, inner) indices of a program in a 1-D grid: only its first dimension has no size limit."""
    return pid // (inner * middle), pid // inner % middle, pid % inner
