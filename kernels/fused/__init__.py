"""Fused Triton kernels, installed as ``diffexplain_fast.kernels``: one file per op, tensors in and tensors out."""
