"""The backward of attention to few keys, such as a text's: a program holds all keys of its queries.

So the sum that a softmax subtracts, delta = rowsum(do o), is also rowsum(P dP), and the output is neither kept nor
read. Rows whose keys and values need no gradient, such as those of the unconditional text, get only that of q.
"""

import triton
import triton.language as tl
from diffexplain_fast.kernels import attention_tiles as tiles
from diffexplain_fast.kernels.attention_tiles import head, load, store, zeros
from diffexplain_fast.kernels.primitives import unravel

REST = tl.constexpr(16)
"""Block size for the last keys, which do not fill a whole block: a larger one would spill registers."""


@triton.jit
def _load_keys(k_ptr, v_ptr, offs_k, offs_n, NK, stride_k_n, D: tl.constexpr, UNIT: tl.constexpr, UPCAST: tl.constexpr):
    """Return k and v [keys, D] of the keys numbered offs_n [keys], their offsets, and the mask of those that exist."""
    mask, rows = offs_n < NK, offs_k + offs_n.to(tl.int64) * stride_k_n * UNIT
    return load(k_ptr, rows, mask, D, UPCAST), load(v_ptr, rows, mask, D, UPCAST), rows, mask


@triton.jit
def _add_queries(
    pointers,
    offs_o,
    offs_q,
    offs_m,
    H,
    NQ,
    stride_q_n,
    keys,
    sums,
    scale,
    D: tl.constexpr,
    UNIT: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Write dq of the queries numbered offs_m [queries]; return the sums (dk / scale, dv) [keys, D] with these added.

    pointers are those of do, q, lse and dq; keys are k, v, k loaded again [keys, D], and the mask of keys that exist.
    Of keys without a gradient, the sums are ().
    """
    do_ptr, q_ptr, lse_ptr, dq_ptr = pointers
    k, v, k_again, mask_n = keys
    mask_m, rows = offs_m < NQ, offs_o + offs_m * H * D
    q = load(q_ptr, offs_q + offs_m * stride_q_n * UNIT, mask_m, D, UPCAST)  # [queries, D]
    do = load(do_ptr, rows, mask_m, D, UPCAST)  # [queries, D]
    lse = tl.load(lse_ptr + offs_m, mask=mask_m, other=0.0)  # [queries]
    p, ds = tiles.of_all_keys(q, do, k, v, mask_n[:, None], scale, lse)
    if len(sums) > 0:
        sums = tiles.add_product(ds, q, sums[0]), tiles.add_product(p, do, sums[1])
    dq = tiles.add_product(tl.trans(ds), k_again, zeros(offs_m.shape[0], D))  # [queries, keys] @ [keys, D]
    store(dq_ptr, rows, mask_m, tiles.times(dq, scale), D)
    return sums


@triton.jit
def attention_bwd_text_dq_kernel(
    do_ptr,  # [B, NQ, H, D], contiguous
    q_ptr,  # [B, NQ, H, D], strides below
    k_ptr,  # [B, NK, H, D], strides below, NK at most BLOCK_N + RESTS * REST
    v_ptr,  # [B, NK, H, D], strides of k
    lse_ptr,  # [B, H, NQ], float32
    delta_ptr,  # [B, H, NQ], float32
    dq_ptr,  # [B, NQ, H, D], contiguous
    stride_q_b,  # in UNITs, as all strides
    stride_q_n,
    stride_q_h,
    stride_k_b,
    stride_k_n,
    stride_k_h,
    H,
    NQ,
    NK,
    scale,
    D: tl.constexpr,
    UNIT: tl.constexpr,
    UPCAST: tl.constexpr,
    RESTS: tl.constexpr,  # 0 or 1
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    pid_b, pid_h, pid_m = unravel(tl.program_id(0), tl.cdiv(NQ, BLOCK_M), H)
    offs_m = pid_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_q = head(pid_b, pid_h, stride_q_b, stride_q_h, UNIT) + offs_m * stride_q_n * UNIT
    offs_k = head(pid_b, pid_h, stride_k_b, stride_k_h, UNIT)
    offs_o = head(pid_b, pid_h, NQ * H, 1, D) + offs_m * H * D
    offs_lse = head(pid_b, pid_h, H * NQ, NQ, 1) + offs_m
    mask_m = offs_m < NQ
    lse = tl.load(lse_ptr + offs_lse, mask=mask_m, other=0.0)  # [BLOCK_M]
    delta = tl.zeros([BLOCK_M], tl.float32)
    if RESTS > 0:
        qr, dor = load(q_ptr, offs_q, mask_m, D, UPCAST, True), load(do_ptr, offs_o, mask_m, D, UPCAST, True)
        offs_r = BLOCK_N + tl.arange(0, REST)
        kr, vr, rows_r, mask_r = _load_keys(k_ptr, v_ptr, offs_k, offs_r, NK, stride_k_n, D, UNIT, UPCAST)
        pr, dpr = tiles.with_weights(qr, dor, kr, vr, mask_r[None, :], scale, lse)  # [BLOCK_M, REST]
        delta += tl.sum(pr * dpr, 1)
    q, do = load(q_ptr, offs_q, mask_m, D, UPCAST), load(do_ptr, offs_o, mask_m, D, UPCAST)  # [BLOCK_M, D]
    offs_n = tl.arange(0, BLOCK_N)
    k, v, _, mask_n = _load_keys(k_ptr, v_ptr, offs_k, offs_n, NK, stride_k_n, D, UNIT, UPCAST)  # [BLOCK_N, D]
    p, dp = tiles.with_weights(q, do, k, v, mask_n[None, :], scale, lse)  # [BLOCK_M, BLOCK_N]
    delta += tl.sum(p * dp, 1)  # [BLOCK_M]
    dq = tiles.add_product(p * (dp - delta[:, None]), k, zeros(BLOCK_M, D))
    if RESTS > 0:
        dq = tiles.add_product(pr * (dpr - delta[:, None]), load(k_ptr, rows_r, mask_r, D, UPCAST, True), dq)
    tl.store(delta_ptr + offs_lse, delta, mask=mask_m)
    store(dq_ptr, offs_o, mask_m, tiles.times(dq, scale), D)


@triton.jit
def attention_bwd_short_kernel(
    do_ptr,  # [B, NQ, H, D], contiguous
    q_ptr,  # [B, NQ, H, D], strides below
    k_ptr,  # [B, NK, H, D], strides below, NK at most BLOCK_N
    v_ptr,  # [B, NK, H, D], strides of k
    lse_ptr,  # [B, H, NQ], float32
    dq_ptr,  # [B, NQ, H, D], contiguous
    dk_ptr,  # [(B - FIRST) * splits, NK, H, D], contiguous
    dv_ptr,  # [(B - FIRST) * splits, NK, H, D], contiguous
    stride_q_b,  # in UNITs, as all strides
    stride_q_n,
    stride_q_h,
    stride_k_b,
    stride_k_n,
    stride_k_h,
    H,
    NQ,
    NK,
    ROWS,  # queries of a split
    FIRST,  # the first image whose keys and values get a gradient
    scale,
    D: tl.constexpr,
    UNIT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    pid_s, pid_h = tl.program_id(0) // H, tl.program_id(0) % H
    splits = tl.cdiv(NQ, ROWS)
    pid_b, first = pid_s // splits, pid_s % splits * ROWS
    end = tl.minimum(first + ROWS, NQ)
    offs_q = head(pid_b, pid_h, stride_q_b, stride_q_h, UNIT)
    offs_k = head(pid_b, pid_h, stride_k_b, stride_k_h, UNIT)
    offs_o = head(pid_b, pid_h, NQ * H, 1, D)
    pointers = do_ptr, q_ptr, lse_ptr + head(pid_b, pid_h, H * NQ, NQ, 1), dq_ptr
    offs_n = tl.arange(0, BLOCK_N)
    k, v, rows_k, mask_n = _load_keys(k_ptr, v_ptr, offs_k, offs_n, NK, stride_k_n, D, UNIT, UPCAST)  # [BLOCK_N, D]
    keys = k, v, load(k_ptr, rows_k, mask_n, D, UPCAST, True), mask_n
    if pid_b >= FIRST:
        sums = zeros(BLOCK_N, D), zeros(BLOCK_N, D)
        for start in range(first, end, BLOCK_M):
            offs_m = (start + tl.arange(0, BLOCK_M)).to(tl.int64)
            sums = _add_queries(pointers, offs_o, offs_q, offs_m, H, NQ, stride_q_n, keys, sums, scale, D, UNIT, UPCAST)
        rows = head(pid_s - FIRST * splits, pid_h, NK * H, 1, D) + offs_n.to(tl.int64) * H * D
        tiles.store_sums(dk_ptr, dv_ptr, rows, mask_n, sums, scale, D)
    else:
        for start in range(first, end, BLOCK_M):
            offs_m = (start + tl.arange(0, BLOCK_M)).to(tl.int64)
            _add_queries(pointers, offs_o, offs_q, offs_m, H, NQ, stride_q_n, keys, (), scale, D, UNIT, UPCAST)


@triton.jit
def attention_combine_kernel(parts_dk_ptr, parts_dv_ptr, dk_ptr, dv_ptr, E, SPLITS, FIRST, BLOCK_E: tl.constexpr):
    """Add up partial sums, parts_dk and parts_dv [B - FIRST, SPLITS, E], to dk and dv [B, E]; E is NK * H * D.

    The first FIRST rows become zeros.
    """
    blocks = tl.cdiv(E, BLOCK_E)
    pid_b = (tl.program_id(0) // blocks).to(tl.int64)
    offs_e = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    mask = offs_e < E
    dk = tl.zeros([BLOCK_E], tl.float32)
    dv = tl.zeros([BLOCK_E], tl.float32)
    splits = tl.where(pid_b < FIRST, 0, SPLITS)
    for split in range(0, splits):
        offs = ((pid_b - FIRST) * SPLITS + split) * E + offs_e
        dk += tl.load(parts_dk_ptr + offs, mask=mask, other=0.0)  # [BLOCK_E]
        dv += tl.load(parts_dv_ptr + offs, mask=mask, other=0.0)  # [BLOCK_E]
    tl.store(dk_ptr + pid_b * E + offs_e, dk.to(dk_ptr.dtype.element_ty), mask=mask)
    tl.store(dv_ptr + pid_b * E + offs_e, dv.to(dv_ptr.dtype.element_ty), mask=mask)
