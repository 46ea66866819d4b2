"""Fused Triton kernels, installed as ``diffexplain_fast.kernels``; none is written yet."""
