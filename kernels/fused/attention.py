"""Softmax attention that never writes its scores: o = P v, P = exp(scale q k^T - lse), lse the log-sum-exp.

With delta = rowsum(do o) and dS = P (do v^T - delta): dv = P^T do, dq = scale dS k, dk = scale dS^T q.
Source: Dao, FlashAttention-2 (arXiv 2307.08691), algorithms 1 and 2. Sums over queries that several programs share go
through partial sums, which are added up in a fixed order: a call with few keys fills a large GPU without atomics. Text
keys fit into one program, which then needs no output; see ``attention_text``. 77 keys are a block of 64 and a rest of
16, not 128; the rest is read first.
"""

import math

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels import attention_tiles as tiles
from diffexplain_fast.kernels.attention_text import (
    REST,
    attention_bwd_short_kernel,
    attention_bwd_text_dq_kernel,
    attention_combine_kernel,
)
from diffexplain_fast.kernels.attention_tiles import head, load, store, zeros
from diffexplain_fast.kernels.configs import CONFIGS, Argument, launch
from diffexplain_fast.kernels.primitives import unravel
from torch import Tensor

_WIDTHS = (64, 96, 160)
"""Numbers of padded columns: an entry of the table of configurations serves up to one of them."""
_PROGRAMS = 264
"""Number of programs to launch if queries can be divided: two for each of the 132 multiprocessors of an H100."""
_UNIT = 16
"""Largest power of two that strides are tested for: 16 elements are more than the widest load."""


@triton.jit
def attention_fwd_kernel(
    q_ptr,  # [B, NQ, H, D], strides below
    k_ptr,  # [B, NK, H, D], strides below
    v_ptr,  # [B, NK, H, D], strides of k
    o_ptr,  # [B, NQ, H, D], contiguous
    lse_ptr,  # [B, H, NQ], float32
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
    RESTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    pid_b, pid_h, pid_m = unravel(tl.program_id(0), tl.cdiv(NQ, BLOCK_M), H)
    offs_m = pid_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_q = head(pid_b, pid_h, stride_q_b, stride_q_h, UNIT) + offs_m * stride_q_n * UNIT
    offs_k = head(pid_b, pid_h, stride_k_b, stride_k_h, UNIT)
    offs_o = head(pid_b, pid_h, NQ * H, 1, D) + offs_m * H * D
    offs_lse = head(pid_b, pid_h, H * NQ, NQ, 1) + offs_m
    q = load(q_ptr, offs_q, offs_m < NQ, D, UPCAST)  # [BLOCK_M, D]
    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = zeros(BLOCK_M, D)
    whole = NK // BLOCK_N * BLOCK_N
    if RESTS > 0:
        qr = load(q_ptr, offs_q, offs_m < NQ, D, UPCAST, True)
        for part in tl.static_range(RESTS):
            offs_r = whole + part * REST + tl.arange(0, REST)
            mask_r, rows = offs_r < NK, offs_k + offs_r.to(tl.int64) * stride_k_n * UNIT
            kr, vr = load(k_ptr, rows, mask_r, D, UPCAST), load(v_ptr, rows, mask_r, D, UPCAST)  # [REST, D]
            highest, total, acc = tiles.attend(qr, kr, vr, mask_r[None, :], scale, highest, total, acc)
    for start in range(0, whole, BLOCK_N):
        offs_n = offs_k + (start + tl.arange(0, BLOCK_N)).to(tl.int64) * stride_k_n * UNIT
        k, v = load(k_ptr, offs_n, None, D, UPCAST), load(v_ptr, offs_n, None, D, UPCAST)  # [BLOCK_N, D]
        highest, total, acc = tiles.attend(q, k, v, None, scale, highest, total, acc)
    store(o_ptr, offs_o, offs_m < NQ, tiles.times(acc, 1.0 / total[:, None]), D)
    tl.store(lse_ptr + offs_lse, highest + tl.log(total), mask=offs_m < NQ)


@triton.jit
def attention_bwd_dq_kernel(
    do_ptr,  # [B, NQ, H, D], contiguous
    q_ptr,  # [B, NQ, H, D], strides below
    k_ptr,  # [B, NK, H, D], strides below
    v_ptr,  # [B, NK, H, D], strides of k
    o_ptr,  # [B, NQ, H, D], contiguous
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
    RESTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    pid_b, pid_h, pid_m = unravel(tl.program_id(0), tl.cdiv(NQ, BLOCK_M), H)
    offs_m = pid_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_q = head(pid_b, pid_h, stride_q_b, stride_q_h, UNIT) + offs_m * stride_q_n * UNIT
    offs_k = head(pid_b, pid_h, stride_k_b, stride_k_h, UNIT)
    offs_o = head(pid_b, pid_h, NQ * H, 1, D) + offs_m * H * D
    offs_lse = head(pid_b, pid_h, H * NQ, NQ, 1) + offs_m
    q, do = load(q_ptr, offs_q, offs_m < NQ, D, UPCAST), load(do_ptr, offs_o, offs_m < NQ, D, UPCAST)  # [BLOCK_M, D]
    delta = tiles.row_product(do, load(o_ptr, offs_o, offs_m < NQ, D, UPCAST))  # [BLOCK_M]
    tl.store(delta_ptr + offs_lse, delta, mask=offs_m < NQ)
    lse = tl.load(lse_ptr + offs_lse, mask=offs_m < NQ, other=0.0)  # [BLOCK_M]
    dq = zeros(BLOCK_M, D)
    whole = NK // BLOCK_N * BLOCK_N
    if RESTS > 0:
        qr, dor = load(q_ptr, offs_q, offs_m < NQ, D, UPCAST, True), load(do_ptr, offs_o, offs_m < NQ, D, UPCAST, True)
        for part in tl.static_range(RESTS):
            offs_r = whole + part * REST + tl.arange(0, REST)
            mask_r, rows = offs_r < NK, offs_k + offs_r.to(tl.int64) * stride_k_n * UNIT
            kr, vr = load(k_ptr, rows, mask_r, D, UPCAST), load(v_ptr, rows, mask_r, D, UPCAST)  # [REST, D]
            dq = tiles.add_dq(qr, dor, kr, vr, mask_r[None, :], scale, lse, delta, dq)
    for start in range(0, whole, BLOCK_N):
        offs_n = offs_k + (start + tl.arange(0, BLOCK_N)).to(tl.int64) * stride_k_n * UNIT
        k, v = load(k_ptr, offs_n, None, D, UPCAST), load(v_ptr, offs_n, None, D, UPCAST)  # [BLOCK_N, D]
        dq = tiles.add_dq(q, do, k, v, None, scale, lse, delta, dq)
    store(dq_ptr, offs_o, offs_m < NQ, tiles.times(dq, scale), D)


@triton.jit
def attention_bwd_dk_dv_kernel(
    do_ptr,  # [B, NQ, H, D], contiguous
    q_ptr,  # [B, NQ, H, D], strides below
    k_ptr,  # [B, NK, H, D], strides below
    v_ptr,  # [B, NK, H, D], strides of k
    lse_ptr,  # [B, H, NQ], float32
    delta_ptr,  # [B, H, NQ], float32
    dk_ptr,  # [B * splits, NK, H, D], contiguous
    dv_ptr,  # [B * splits, NK, H, D], contiguous
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
    scale,
    D: tl.constexpr,
    UNIT: tl.constexpr,
    UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    pid_s, pid_h, pid_n = unravel(tl.program_id(0), tl.cdiv(NK, BLOCK_N), H)
    pid_b, first = pid_s // tl.cdiv(NQ, ROWS), pid_s % tl.cdiv(NQ, ROWS) * ROWS
    offs_q = head(pid_b, pid_h, stride_q_b, stride_q_h, UNIT)
    offs_k = head(pid_b, pid_h, stride_k_b, stride_k_h, UNIT)
    offs_o = head(pid_b, pid_h, NQ * H, 1, D)
    lse_ptr += head(pid_b, pid_h, H * NQ, NQ, 1)
    delta_ptr += head(pid_b, pid_h, H * NQ, NQ, 1)
    offs_n = pid_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    # The last key is read again in place of keys that do not exist: with zeros, their unused weights could overflow.
    offs_k += tl.minimum(offs_n, NK - 1) * stride_k_n * UNIT
    k, v = load(k_ptr, offs_k, None, D, UPCAST), load(v_ptr, offs_k, None, D, UPCAST)  # [BLOCK_N, D]
    dk, dv = zeros(BLOCK_N, D), zeros(BLOCK_N, D)
    for start in range(first, tl.minimum(first + ROWS, NQ), BLOCK_M):
        offs_m = (start + tl.arange(0, BLOCK_M)).to(tl.int64)
        mask_m, rows = offs_m < NQ, offs_o + offs_m * H * D
        q = load(q_ptr, offs_q + offs_m * stride_q_n * UNIT, mask_m, D, UPCAST)  # [BLOCK_M, D]
        do = load(do_ptr, rows, mask_m, D, UPCAST)  # [BLOCK_M, D]
        lse = tl.load(lse_ptr + offs_m, mask=mask_m, other=0.0)  # [BLOCK_M]
        delta = tl.load(delta_ptr + offs_m, mask=mask_m, other=0.0)  # [BLOCK_M]
        _, dk, dv = tiles.add_dk_dv(q, do, k, v, None, scale, lse, delta, dk, dv)
    rows = head(pid_s, pid_h, NK * H, 1, D) + offs_n * H * D
    tiles.store_sums(dk_ptr, dv_ptr, rows, offs_n < NK, (dk, dv), scale, D)


def attention_fwd(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return o [B, Nq, H, D] and the log-sum-exp [B, H, Nq] of q [B, Nq, H, D], k and v [B, Nk, H, D], scale > 0."""
    call = _Call(q, k, v, scale)
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32, device=q.device)
    call.by_queries("fwd", attention_fwd_kernel, o_ptr=o, lse_ptr=lse)
    return o, lse


def attention_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq [B, Nq, H, D], dk and dv [B, Nk, H, D] from the results of ``attention_fwd`` and the gradient of o."""
    return attention_text_bwd(do, q, k, v, None if _Call(q, k, v, scale).fits("text_dq") else o, lse, scale, 0)


def attention_text_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor | None, lse: Tensor, scale: float, first: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv; dk and dv of the images before ``first`` are zeros.

    The output may be None for the few keys of a text in half precision, if heads are not too wide.
    """
    call = _Call(q, k, v, scale)
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    pointers = {"do_ptr": do.contiguous(), "lse_ptr": lse.contiguous()}
    if call.fits("short"):
        call.by_keys("short", attention_bwd_short_kernel, dk, dv, first, dq_ptr=dq, FIRST=first, **pointers)
        return dq, dk, dv
    pointers["delta_ptr"] = torch.empty(lse.shape, dtype=torch.float32, device=lse.device)
    if o is None:
        call.by_queries("text_dq", attention_bwd_text_dq_kernel, dq_ptr=dq, **pointers)
    else:
        call.by_queries("dq", attention_bwd_dq_kernel, o_ptr=o.contiguous(), dq_ptr=dq, **pointers)
    asked = _Call(q[first:], k[first:], v[first:], scale)
    pointers = {name: tensor[first:] for name, tensor in pointers.items()}
    asked.by_keys("dk_dv", attention_bwd_dk_dv_kernel, dk, dv, first, **pointers)
    return dq, dk, dv


def entry(kernel: str, columns: int, exact: bool) -> str:
    """Return the name of an entry in the table of configurations.

    Args:
        kernel: "fwd", "dq", "dk_dv", "text_dq" or "short".
        columns: number of columns of a head.
        exact: True if the tensors are float32.

    Raises:
        ValueError: no entry serves so many columns.
    """
    width = next((width for width in _WIDTHS if tiles.parted(columns) <= width), None)
    if width is None:
        raise ValueError(f"attention: wanted at most {_WIDTHS[-1]} columns per head, got {columns}")
    return f"attention_{kernel}_{width}{'_fp32' if exact else ''}"


class _Call:
    """The tensors and sizes of one call, with the methods that launch its kernels.

    Args:
        q: queries [B, Nq, H, D].
        k: keys [B, Nk, H, D].
        v: values [B, Nk, H, D].
        scale: factor of the scores, above 0.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        if k.stride() != v.stride():
            k, v = k.contiguous(), v.contiguous()  # views of one projection have equal strides
        self.images, self.queries, self.heads, self.columns = q.shape
        self.keys = k.shape[1]
        self.exact = q.dtype == torch.float32
        # The stride of a dimension of length 1 is never used and can have any value: it counts as 0.
        strides = [step if n > 1 else 0 for x in (q, k) for n, step in zip(x.shape[:3], x.stride()[:3], strict=True)]
        unit = math.gcd(_UNIT, *strides)
        names = [f"stride_{x}_{axis}" for x in "qk" for axis in "bnh"]
        self.arguments: dict[str, Argument] = {
            **{"q_ptr": q, "k_ptr": k, "v_ptr": v, "H": self.heads, "NQ": self.queries, "NK": self.keys},
            **{name: step // unit for name, step in zip(names, strides, strict=True)},
            **{"scale": float(scale), "D": self.columns, "UNIT": unit},
            "UPCAST": q.dtype == torch.bfloat16 and triton.knobs.runtime.interpret,
        }

    def fits(self, kernel: str) -> bool:
        """Whether a program of a kernel, "short" or "text_dq", can hold all keys."""
        entry, rest = self.entry(kernel), REST.value if kernel == "text_dq" else 0
        return entry in CONFIGS and self.keys <= CONFIGS[entry][0].blocks["BLOCK_N"] + rest

    def entry(self, kernel: str) -> str:
        """Return the name of a kernel's entry in the table of configurations."""
        return entry(kernel, self.columns, self.exact)

    def by_queries(self, name: str, kernel: triton.JITFunction, **pointers: Tensor) -> None:
        """Launch a kernel whose programs divide the queries; each program reads all keys."""
        entry = self.entry(name)
        block = CONFIGS[entry][0].blocks["BLOCK_N"]
        rest = max(self.keys - block, 0) if name == "text_dq" else self.keys % block
        heads = self.images * self.heads
        launch(
            entry,
            kernel,
            lambda meta: (triton.cdiv(self.queries, meta["BLOCK_M"]) * heads,),
            RESTS=triton.cdiv(rest, REST.value),
            **pointers,
            **self.arguments,
        )

    def by_keys(
        self, name: str, kernel: triton.JITFunction, dk: Tensor, dv: Tensor, first: int, **arguments: Argument
    ) -> None:
        """Launch a kernel whose programs divide the keys, and also the queries if keys are too few to fill a GPU.

        Each program has as many queries as if all images of dk and dv had a gradient.

        Args:
            name: as in ``entry``.
            kernel: kernel.
            dk: gradient of the keys [B, Nk, H, D].
            dv: gradient of the values.
            first: the first image that has these; for those before, they are zeros.
            arguments: other arguments of the kernel.
        """
        entry = self.entry(name)
        blocks = CONFIGS[entry][0].blocks
        each = self.heads * triton.cdiv(self.keys, blocks["BLOCK_N"])
        programs = len(dk) * each
        steps = triton.cdiv(self.queries, blocks["BLOCK_M"])
        rows = triton.cdiv(steps, triton.cdiv(_PROGRAMS, programs)) * blocks["BLOCK_M"]
        splits = triton.cdiv(self.queries, rows)
        shape, whole = ((len(dk) - first) * splits, *dk.shape[1:]), splits == 1 and first == 0
        sums = (dk, dv) if whole else [torch.empty(shape, dtype=torch.float32, device=dk.device) for _ in "kv"]
        arguments |= {"dk_ptr": sums[0], "dv_ptr": sums[1], "ROWS": rows}
        launch(entry, kernel, lambda _: (self.images * each * splits,), **arguments, **self.arguments)
        if not whole:
            elements = dk[0].numel()
            launch(
                "attention_combine",
                attention_combine_kernel,
                lambda meta: (len(dk) * triton.cdiv(elements, meta["BLOCK_E"]),),
                parts_dk_ptr=sums[0],
                parts_dv_ptr=sums[1],
                dk_ptr=dk,
                dv_ptr=dv,
                E=elements,
                SPLITS=splits,
                FIRST=first,
            )
