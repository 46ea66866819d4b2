"""Tiles of attention: rows of a head with D columns, and what a block of keys or queries adds to a result.

A size that is no power of two is held as two, a main part and a tail: 40 columns as 32 + 16, not as 64. A tile is a
tuple of its parts, so ``len`` tells whether there is a tail.
"""

import math

import torch
import triton
import triton.language as tl

_LOG2_E = tl.constexpr(math.log2(math.e))
_LOG2_E_ROUNDING = tl.constexpr(math.log2(math.e) - torch.tensor(math.log2(math.e), dtype=torch.float32).item())


@triton.constexpr_function
def padded(size):
    """Return the least power of two that holds a size and that ``tl.dot`` takes."""
    return max(16, triton.next_power_of_2(size))


@triton.constexpr_function
def main_part(size):
    """Return the first of the two powers of two that hold a size, or the only one where two would hold no less."""
    half = padded(size) // 2
    return half if half >= 16 and padded(size - half) < half else padded(size)


@triton.constexpr_function
def tail_part(size):
    """Return the second, or 0."""
    return padded(size - main_part(size)) if size > main_part(size) else 0


@triton.constexpr_function
def parted(size):
    """Return what a size takes in parts."""
    return main_part(size) + tail_part(size)


@triton.jit
def to_base_2(x):
    """Return x / ln 2, -inf for -inf; with the constant rounded to float32, all results would be off alike."""
    return tl.fma(x, _LOG2_E, x * _LOG2_E_ROUNDING)


@triton.jit
def head(pid_b, pid_h, stride_b, stride_h, UNIT: tl.constexpr):
    """Return the offset of a head of an image; strides are in UNITs, whose factors of two allow wide loads."""
    return (pid_b.to(tl.int64) * stride_b + pid_h.to(tl.int64) * stride_h) * UNIT


@triton.jit
def _exists(offs_d, mask, D: tl.constexpr):
    return offs_d < D if mask is None else mask[:, None] & (offs_d < D)


@triton.jit
def load(x_ptr, rows, mask, D: tl.constexpr, UPCAST: tl.constexpr, AGAIN: tl.constexpr = False):
    """Return the tile of rows at offsets [N], 0 where there is nothing; no mask if all rows exist.

    UPCAST is for bfloat16 in the interpreter, which cannot multiply it. AGAIN makes a second load of the same tile
    another one to the compiler: a tile with one use stays in shared memory, with two it fills the registers.
    """
    dtype = tl.float32 if UPCAST else x_ptr.dtype.element_ty
    hint: tl.constexpr = "evict_last" if AGAIN else ""
    offs_d = tl.arange(0, main_part(D))[None, :]
    x = tl.load(x_ptr + rows[:, None] + offs_d, mask=_exists(offs_d, mask, D), other=0.0, eviction_policy=hint).to(
        dtype
    )
    if tail_part(D) > 0:
        offs_t = main_part(D) + tl.arange(0, tail_part(D))[None, :]
        xt = tl.load(x_ptr + rows[:, None] + offs_t, mask=_exists(offs_t, mask, D), other=0.0, eviction_policy=hint)
        return x, xt.to(dtype)
    else:
        return (x,)


@triton.jit
def store(x_ptr, rows, mask, x, D: tl.constexpr):
    """Write a tile in the dtype of the pointer."""
    dtype = x_ptr.dtype.element_ty
    offs_d = tl.arange(0, main_part(D))[None, :]
    tl.store(x_ptr + rows[:, None] + offs_d, x[0].to(dtype), mask=_exists(offs_d, mask, D))
    if len(x) > 1:
        offs_t = main_part(D) + tl.arange(0, tail_part(D))[None, :]
        tl.store(x_ptr + rows[:, None] + offs_t, x[1].to(dtype), mask=_exists(offs_t, mask, D))


@triton.jit
def zeros(ROWS: tl.constexpr, D: tl.constexpr):
    """Return a tile of float32 with nothing in it yet."""
    x = tl.zeros([ROWS, main_part(D)], tl.float32)
    if tail_part(D) > 0:
        return x, tl.zeros([ROWS, tail_part(D)], tl.float32)
    else:
        return (x,)


@triton.jit
def times(x, factor):
    """Return a tile times a number, or times one for each row [N, 1]."""
    if len(x) > 1:
        return x[0] * factor, x[1] * factor
    else:
        return (x[0] * factor,)


@triton.jit
def row_product(x, y):
    """Return rowsum(x y)."""
    total = tl.sum(x[0].to(tl.float32) * y[0].to(tl.float32), 1)
    if len(x) > 1:
        total += tl.sum(x[1].to(tl.float32) * y[1].to(tl.float32), 1)
    return total


@triton.jit
def outer(a, b):
    """Return a b^T: [A, D] @ [D, B] -> [A, B]."""
    ab = tl.dot(a[0], tl.trans(b[0]), input_precision="ieee")
    if len(a) > 1:
        ab = tl.dot(a[1], tl.trans(b[1]), ab, input_precision="ieee")
    return ab


@triton.jit
def add_product(w, x, acc):
    """Return acc + w x: [A, B] @ [B, D] -> [A, D]."""
    w = w.to(x[0].dtype)
    main = tl.dot(w, x[0], acc[0], input_precision="ieee")
    if len(x) > 1:
        return main, tl.dot(w, x[1], acc[1], input_precision="ieee")
    else:
        return (main,)


@triton.jit
def transposed(x):
    """Return the transpose of every part."""
    if len(x) > 1:
        return tl.trans(x[0]), tl.trans(x[1])
    else:
        return (tl.trans(x[0]),)


@triton.jit
def _masked(s, mask):
    """Return scores, -inf for keys that do not exist: 0 could lie far above all others."""
    return s if mask is None else tl.where(mask, s, float("-inf"))


@triton.jit
def _weights(s, scale, lse, EXACT: tl.constexpr):
    """Return exp(scale s - lse). EXACT, for float32, rounds after the difference, not lse before it."""
    if EXACT:
        return tl.exp2(to_base_2(tl.fma(s, scale, -lse)))
    else:
        return tl.exp2(tl.fma(s, to_base_2(scale), -to_base_2(lse)))


@triton.jit
def attend(q, k, v, mask, scale, highest, total, acc):
    """Return highest score, sum of weights and of weighted values [queries, D] with a block of keys taken in.

    The mask, if any, is [1, keys].
    """
    s = _masked(outer(q, k), mask)
    higher = tl.maximum(highest, tl.max(s, 1) * scale)
    shrink = tl.exp2(to_base_2(highest - higher))
    p = _weights(s, scale, higher[:, None], q[0].dtype == tl.float32)
    return higher, total * shrink + tl.sum(p, 1), add_product(p, v, times(acc, shrink[:, None]))


@triton.jit
def add_dq(q, do, k, v, mask, scale, lse, delta, dq):
    """Return dq / scale [queries, D] with a block of keys added."""
    p = _weights(_masked(outer(q, k), mask), scale, lse[:, None], q[0].dtype == tl.float32)
    return add_product(p * (outer(do, v) - delta[:, None]), k, dq)


@triton.jit
def add_dk_dv(q, do, k, v, mask, scale, lse, delta, dk, dv):
    """Return dS^T [keys, queries], and dk / scale and dv [keys, D] with a block of queries added."""
    p = _weights(_masked(outer(k, q), mask), scale, lse[None, :], q[0].dtype == tl.float32)
    dv = add_product(p, do, dv)
    ds = (p * (outer(v, do) - delta[None, :])).to(q[0].dtype)
    return ds, add_product(ds, q, dk), dv


@triton.jit
def store_sums(dk_ptr, dv_ptr, rows, mask, sums, scale, D: tl.constexpr):
    """Write dk and dv of a block of keys."""
    store(dk_ptr, rows, mask, times(sums[0], scale), D)
    store(dv_ptr, rows, mask, sums[1], D)
