"""Every setting of torch that decides which kernels run makes a call of another kind."""

import re

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffexplain_fast.engine.graphs import kernel_settings as settings
from diffexplain_fast.engine.graphs.kernel_settings import kernel_settings

CUDA = torch.device("cuda")
KERNELS = re.compile(r"blas|cudnn|_sdp|sdp_|attention|determin|linalg|miopen|math|_fa_|reduction|carveout")
"""Words in the names of torch's settings that concern kernels of a GPU."""
NOT_OURS = {
    "cudnn_benchmark": "every recording searches",
    "cublas_allow_tf32": "the same setting as a precision",
    "cudnn_allow_tf32": "the same setting as a precision",
    "float32_matmul_precision": "the same setting as a precision",
    "onednn_allow_tf32": "of Intel's devices, which are not recorded",
    "mkldnn_deterministic": "of the CPU, which is not recorded",
    "cpu_allow_fp16_reduced_precision_reduction": "of the CPU, which is not recorded",
    "blas_default_backend": "follows from the device",
    "cudnn_batch_norm_reserve_space_size": "a size that follows from a shape",
    "cudnn_version": "fixed by the library",
}


def torch_names():
    """All settings that torch's module in C++ can read and that concern kernels."""
    names = {name.removeprefix("_get_") for name in dir(torch._C) if name.startswith("_get_")}
    return sorted(name for name in names if KERNELS.search(name))


@pytest.mark.parametrize("name", torch_names())
def test_no_setting_of_this_torch_was_forgotten(name):
    assert name in settings._NAMES or name in NOT_OURS, "a new setting of torch: does it change which kernels run?"


def set_to(write, new, old):
    """A change by a function of torch, and the function that undoes it."""

    def change():
        write(new)
        return lambda: write(old)

    return change


def assigned(module, name, new):
    """A change of a property, and the function that undoes it."""

    def change():
        old = getattr(module, name)
        setattr(module, name, new)
        return lambda: setattr(module, name, old)

    return change


CUDA_BACKEND = torch.backends.cuda
CHANGES = {
    "cudnn sdp": set_to(CUDA_BACKEND.enable_cudnn_sdp, False, True),
    "flash sdp": set_to(CUDA_BACKEND.enable_flash_sdp, False, True),
    "mem efficient sdp": set_to(CUDA_BACKEND.enable_mem_efficient_sdp, False, True),
    "math sdp": set_to(CUDA_BACKEND.enable_math_sdp, False, True),
    "math sdp in half precision": set_to(CUDA_BACKEND.allow_fp16_bf16_reduction_math_sdp, True, False),
    "deterministic": set_to(torch.use_deterministic_algorithms, True, False),
    "fp16 sums": assigned(CUDA_BACKEND.matmul, "allow_fp16_reduced_precision_reduction", False),
    "bf16 sums": assigned(CUDA_BACKEND.matmul, "allow_bf16_reduced_precision_reduction", False),
    "fp16 accumulation": assigned(CUDA_BACKEND.matmul, "allow_fp16_accumulation", True),
    "tf32 products": assigned(CUDA_BACKEND.matmul, "fp32_precision", "tf32"),
    "tf32 convolutions": assigned(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "tf32 recurrence": assigned(torch.backends.cudnn.rnn, "fp32_precision", "ieee"),
    "cudnn": assigned(torch.backends.cudnn, "enabled", False),
    "cudnn deterministic": assigned(torch.backends.cudnn, "deterministic", True),
    "fast path of attention": set_to(torch.backends.mha.set_fastpath_enabled, False, True),
    "default dtype": set_to(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": set_to(torch.set_default_device, "meta", None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_a_setting_shows_and_so_does_its_return(name):
    before = kernel_settings(CUDA)
    undo = CHANGES[name]()
    try:
        assert kernel_settings(CUDA) != before
    finally:
        undo()
    assert kernel_settings(CUDA) == before


def test_warnings_only_are_another_kind_than_errors():
    """With errors our attention leaves cuDNN, with warnings it does not."""
    found = []
    try:
        for warn_only in (True, False):
            torch.use_deterministic_algorithms(True, warn_only=warn_only)
            found.append(kernel_settings(CUDA))
    finally:
        torch.use_deterministic_algorithms(False)
    assert found[0] != found[1]


def test_the_order_of_attention_kernels_is_a_setting():
    every = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION]
    found = []
    for order in (every, every[::-1]):
        with sdpa_kernel(order, set_priority=True):
            found.append(kernel_settings(CUDA))
    assert found[0] != found[1]


def test_autocast_of_the_call_s_device_is_a_setting():
    plain = kernel_settings(torch.device("cpu")), kernel_settings(CUDA)
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel_settings(torch.device("cpu")) != plain[0] and kernel_settings(CUDA) == plain[1]
        half = kernel_settings(torch.device("cpu"))
    with torch.autocast("cpu", torch.float16):
        assert kernel_settings(torch.device("cpu")) != half
