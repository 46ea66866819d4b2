"""Tiles of attention, which are rows of a head with D columns, and the functions that add a block to a result.

A size that is not a power of two is held as two powers, a main part and a tail: 40 columns as 32 + 16, not as 64. A
tile is a tuple of one or two tensors, so ``len`` tells whether there is a tail. The comments write a tile as
[rows, D]: its tensors are [rows, main_part(D)] and [rows, tail_part(D)].
"""

import math

import torch
import triton
import triton.language as tl

_LOG2_E = tl.constexpr(math.log2(math.e))
_LOG2_E_ROUNDING = tl.constexpr(math.log2(math.e) - torch.tensor(math.log2(math.e), dtype=torch.float32).item())


@triton.constexpr_function
def padded(size):
    """Return the smallest power of two that is at least ``size`` and that ``tl.dot`` accepts."""
    return max(16, triton.next_power_of_2(size))


@triton.constexpr_function
def main_part(size):
    """Return the first of the two powers of two that hold a size, or the only one if two would not be smaller."""
    half = padded(size) // 2
    return half if half >= 16 and padded(size - half) < half else padded(size)


@triton.constexpr_function
def tail_part(size):
    """Return the second of the two powers of two that hold a size, or 0 if one is enough."""
    return padded(size - main_part(size)) if size > main_part(size) else 0


@triton.constexpr_function
def parted(size):
    """Return the number of columns that a size occupies: main part plus tail."""
    return main_part(size) + tail_part(size)


@triton.jit
def to_base_2(x):
    """Return x / ln 2, and -inf for -inf. A constant rounded to float32 would shift all results in one direction."""
    return tl.fma(x, _LOG2_E, x * _LOG2_E_ROUNDING)


@triton.jit
def head(pid_b, pid_h, stride_b, stride_h, UNIT: tl.constexpr):
    """Return the offset of a head of an image. Strides count UNITs, a power of two, so that loads can be wide."""
    return (pid_b.to(tl.int64) * stride_b + pid_h.to(tl.int64) * stride_h) * UNIT


@triton.jit
def _exists(offs_d, mask, D: tl.constexpr):
    return offs_d < D if mask is None else mask[:, None] & (offs_d < D)


@triton.jit
def load(x_ptr, rows, mask, D: tl.constexpr, UPCAST: tl.constexpr, AGAIN: tl.constexpr = False):
    """Return the tile [N, D] of rows at offsets [N], with 0 where no element exists; mask is None if all rows exist.

    UPCAST is for bfloat16 in the interpreter, which cannot multiply it. AGAIN makes the compiler treat a second load
    of the same tile as a different one: a tile with one use stays in shared memory, a tile with two fills registers.
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
    """Write a tile [N, D] to rows at offsets [N], in the dtype of the pointer."""
    dtype = x_ptr.dtype.element_ty
    offs_d = tl.arange(0, main_part(D))[None, :]
    tl.store(x_ptr + rows[:, None] + offs_d, x[0].to(dtype), mask=_exists(offs_d, mask, D))
    if len(x) > 1:
        offs_t = main_part(D) + tl.arange(0, tail_part(D))[None, :]
        tl.store(x_ptr + rows[:, None] + offs_t, x[1].to(dtype), mask=_exists(offs_t, mask, D))


@triton.jit
def zeros(ROWS: tl.constexpr, D: tl.constexpr):
    """Return a tile [ROWS, D] of float32 zeros."""
    x = tl.zeros([ROWS, main_part(D)], tl.float32)
    if tail_part(D) > 0:
        return x, tl.zeros([ROWS, tail_part(D)], tl.float32)
    else:
        return (x,)


@triton.jit
def times(x, factor):
    """Return a tile [N, D] times a number, or times one number for each row [N, 1]."""
    if len(x) > 1:
        return x[0] * factor, x[1] * factor
    else:
        return (x[0] * factor,)


@triton.jit
def row_product(x, y):
    """Return rowsum(x y) in float32: [N, D], [N, D] -> [N]."""
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
    """Return the transpose of each tensor of a tile: [N, D] -> [D, N]."""
    if len(x) > 1:
        return tl.trans(x[0]), tl.trans(x[1])
    else:
        return (tl.trans(x[0]),)


@triton.jit
def _masked(s, mask):
    """Return scores with -inf for keys that do not exist: a 0 there could be far above all real scores."""
    return s if mask is None else tl.where(mask, s, float("-inf"))


@triton.jit
def _weights(s, scale, lse, EXACT: tl.constexpr):
    """Return exp(scale s - lse). EXACT, for float32, rounds the difference, not lse before the subtraction."""
    if EXACT:
        return tl.exp2(to_base_2(tl.fma(s, scale, -lse)))
    else:
        return tl.exp2(tl.fma(s, to_base_2(scale), -to_base_2(lse)))


@triton.jit
def attend(q, k, v, mask, scale, highest, total, acc):
    """Return the running results of the queries after one more block of keys.

    q is [queries, D], k and v are [keys, D], the mask is [1, keys] or None. The running results are the highest score
    and the sum of weights, both [queries], and the sum of weighted values [queries, D].
    """
    s = _masked(outer(q, k), mask)  # [queries, D] @ [D, keys]
    higher = tl.maximum(highest, tl.max(s, 1) * scale)
    shrink = tl.exp2(to_base_2(highest - higher))
    p = _weights(s, scale, higher[:, None], q[0].dtype == tl.float32)
    return higher, total * shrink + tl.sum(p, 1), add_product(p, v, times(acc, shrink[:, None]))


@triton.jit
def add_dq(q, do, k, v, mask, scale, lse, delta, dq):
    """Return dq / scale [queries, D] with a block of keys [keys, D] added; lse and delta are [queries]."""
    p = _weights(_masked(outer(q, k), mask), scale, lse[:, None], q[0].dtype == tl.float32)  # [queries, keys]
    return add_product(p * (outer(do, v) - delta[:, None]), k, dq)


@triton.jit
def add_dk_dv(q, do, k, v, mask, scale, lse, delta, dk, dv):
    """Return dS^T [keys, queries], and dk / scale and dv [keys, D] with a block of queries [queries, D] added."""
    p = _weights(_masked(outer(k, q), mask), scale, lse[None, :], q[0].dtype == tl.float32)  # [keys, queries]
    dv = add_product(p, do, dv)
    ds = (p * (outer(v, do) - delta[None, :])).to(q[0].dtype)
    return ds, add_product(ds, q, dk), dv


@triton.jit
def with_weights(q, do, k, v, mask, scale, lse):
    """Return P and do v^T [queries, keys] for a block of keys [keys, D]; lse is [queries]."""
    p = _weights(_masked(outer(q, k), mask), scale, lse[:, None], q[0].dtype == tl.float32)
    return p, outer(do, v)


@triton.jit
def of_all_keys(q, do, k, v, mask, scale, lse):
    """Return P and dS^T [keys, queries] for all keys [keys, D]: delta, a sum over them, is known from both factors."""
    p = _weights(_masked(outer(k, q), mask), scale, lse[None, :], q[0].dtype == tl.float32)
    dp = outer(v, do)
    return p, (p * (dp - tl.sum(p * dp, 0)[None, :])).to(q[0].dtype)


@triton.jit
def store_sums(dk_ptr, dv_ptr, rows, mask, sums, scale, D: tl.constexpr):
    """Write dk and dv [keys, D] of a block of keys; sums are (dk / scale, dv)."""
    store(dk_ptr, rows, mask, times(sums[0], scale), D)
    store(dv_ptr, rows, mask, sums[1], D)
