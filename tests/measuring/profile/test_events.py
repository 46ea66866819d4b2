"""Every operator and kernel falls into the family a reader would put it in."""

import pytest

from diffexplain_fast.measuring.profile.events import FAMILIES, family

NAMES = {
    "convolution": [
        "aten::conv2d",
        "aten::_convolution",
        "aten::convolution_backward",
        "aten::mkldnn_convolution",
        "mkldnn::_convolution_pointwise",
        "aten::_slow_conv2d_backward",
        "aten::cudnn_convolution",
        "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x32",
        "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>",
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816dgrad_optimized>(Params)",
    ],
    "matmul": [
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::linear",
        "mkldnn::_linear_pointwise",
        "ampere_sgemm_128x64_nn",
        "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128_16x4_tn_align4>(Params)",
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float>(Params)",
    ],
    "attention": [
        "aten::scaled_dot_product_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
        "diffexplain_fast::attention_fwd_triton",
        "attention_bwd_dk_dv_kernel",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128>>(Params)",
        "fmha_cutlassF_f32_aligned_64x64_rf_sm80",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x64x64",
    ],
    "norm": [
        "aten::native_layer_norm",
        "aten::native_batch_norm_backward",
        "aten::group_norm",
        "diffexplain_fast::group_norm_silu_fwd",
        "diffexplain_fast::layer_norm_bwd_triton",
        "group_norm_silu_fwd_partial_kernel",
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>(int)",
        "void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<float>(long, float)",
    ],
    "elementwise": [
        "aten::add_",
        "aten::mul",
        "aten::silu_backward",
        "aten::linalg_vector_norm",
        "aten::_foreach_norm",
        "aten::_log_softmax_backward_data",
        "aten::sum",
        "aten::clamp_min",
        "aten::exp2",
        "aten::max_pool2d_with_indices_backward",
        "aten::_upsample_bilinear2d_aa",
        "diffexplain_fast::geglu_fwd",
        "diffexplain_fast::guided_step_bwd",
        "diffexplain_fast::resize_normalize_fwd",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(ReduceOp)",
        "triton_poi_fused_add_0",
    ],
    "layout and copy": [
        "aten::copy_",
        "aten::cat",
        "aten::index",
        "aten::slice_backward",
        "aten::fill_",
        "diffexplain_fast::interleave_fwd",
        "interleave_bwd_kernel",
        "Memcpy DtoD (Device -> Device)",
        "Memset (Device)",
        "void cudnn::engines_precompiled::nchwToNhwcKernel<float, float, float>(Params)",
        "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda(TensorIterator)>(int)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float>(Params)",
    ],
    "host": [
        "aten::view",
        "aten::reshape",
        "aten::empty_strided",
        "aten::detach_",
        "aten::to",
        "detach",
        "_Trajectory",
        "_ResnetBackward",
        "ConvolutionBackward0",
        "autograd::engine::evaluate_function: NativeLayerNormBackward0",
        "cudaLaunchKernel",
        "part: decoder",
        "decoder, backward",
        "step 12",
        "iteration",
    ],
    "other": ["aten::svd", "a_kernel_of_somebody_else"],
}


@pytest.mark.parametrize(("wanted", "name"), [(wanted, name) for wanted, names in NAMES.items() for name in names])
def test_a_name_falls_into_its_family(wanted: str, name: str) -> None:
    assert family(name) == wanted


def test_every_family_is_tested() -> None:
    assert tuple(NAMES) == FAMILIES
