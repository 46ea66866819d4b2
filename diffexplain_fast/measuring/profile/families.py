"""Families of operators and kernels: what kind of work a name in a profile stands for."""

import re

HOST, OTHER, MOVES = "host", "other", "layout and copy"
FAMILIES = ("convolution", "matmul", "attention", "norm", "elementwise", MOVES, HOST, OTHER)
"""``elementwise`` has reductions and resizing too; ``host`` is all that computes nothing: Python, autograd, views,
allocation, launching. ``other`` is what the table does not know."""

_VIEWS = (
    "alias|as_strided|chunk|clone|contiguous|detach|expand(_as)?|flatten|lift_fresh|movedim|narrow|permute|_?reshape"
    "|_reshape_alias|resolve_(conj|neg)|select|slice|split(_with_sizes)?|squeeze|swapaxes|t|to|_to_copy|transpose"
    "|unbind|unflatten|unfold|_unsafe_view|unsqueeze|view(_as)?"
)
_ALLOCATION = (
    "empty(_like|_strided)?|new_(empty|empty_strided|zeros|ones|full)|(zeros|ones|full|randn|rand)(_like)?|resize_"
    "|resize_as_|scalar_tensor|set_|arange"
)
_QUESTIONS = "is_same_size|item|_local_scalar_dense|_nnpack_available|promote_types|result_type|is_nonzero|equal|pad"
_MOVES = (
    "_?copy_?|cat|constant_pad_nd|embedding|fill_|gather|index(_select)?|masked_fill|pixel_(un)?shuffle|repeat"
    "|reflection_pad\\w*|replication_pad\\w*|roll|scatter|(select|slice)_backward|stack|zero_|masked_select|flip"
)
_PRODUCTS = "_?(add)?mm|b?addbmm|baddbmm|bmm|matmul|linear|einsum|(add)?mv|v?dot|inner|outer|ger|tensordot|_scaled_mm"
_POINTWISE = (
    "_?(foreach_)?(__and__|abs|add|addcdiv|addcmul|bitwise_\\w+|ceil|clamp(_min|_max)?|cos|cumsum|div|elu|eq|erf|exp2?|floor|ge"
    "|gelu|glu|gt|isfinite|isnan|hardswish|hardsigmoid|le|leaky_relu|lerp|log|log1p|log2|logical_\\w+|lt|maximum|minimum"
    "|mish|mul|nan_to_num|ne|neg|norm|pow|reciprocal|relu|relu6|remainder|round|rsqrt|rsub|sgn|sigmoid|sign|silu|sin"
    "|softplus|sqrt|square|sub|tanh|threshold|triu|tril|where)"
)
_REDUCTIONS = (
    "all|amax|amin|any|argmax|argmin|argsort|linalg_vector_norm|max|mean|min|prod|sort|std|sum|topk|var(_mean)?"
    "|_?(log_)?softmax|logsumexp|nll_loss\\w*"
)
_SAMPLING = "\\w*pool[123]?d?\\w*|_?upsample_\\w+|grid_sampler\\w*|normal_|uniform_|bernoulli_?|dropout"

_TABLE = [
    (
        HOST,
        r"(autograd::engine|torch::autograd|part: |iteration$|\[memory\]|Optimizer|ProfilerStep).*"
        r"|(step \d+|decoder)(, backward)?"
        r"|_?[A-Z]\w*Backward\d*|_[A-Z]\w*|detach_?|cu(da)?[A-Z]\w*",
    ),
    (HOST, rf"aten::({_VIEWS}|{_ALLOCATION}|{_QUESTIONS})_?"),
    ("elementwise", rf"aten::({_POINTWISE}|{_REDUCTIONS}|{_SAMPLING})_?(_backward\w*)?"),
    (
        MOVES,
        rf"aten::({_MOVES})|diffexplain_fast::interleave\w*|Mem(cpy|set).*|interleave_\w*"
        r"|.*(CatArrayBatchedCopy|n[chw]{3}ToN[chw]{3}|direct_copy|copy_kernel|FillFunctor|convertTensor|indexSelect"
        r"|index_elementwise|gather|transpose_kernel|reorder).*",
    ),
    ("attention", r"(?i).*(attention|flash_(fwd|bwd)|fmha|sdpa|scaled_dot_product).*"),
    (
        "norm",
        r"(?i).*((group|layer|batch|rms|instance)_?norm|RowwiseMoments|ComputeFusedParams|ComputeInternalGradients"
        r"|GammaBeta|bn_(fw|bw)_).*",
    ),
    ("convolution", r"(?i).*(conv(?!ert)|winograd|fprop|dgrad|wgrad|im2col|col2im).*"),
    (
        "matmul",
        rf"(?i)aten::({_PRODUCTS})_?|.*(gemm|gemv|cutlass|nvjet|split_?k|cublas|_linear).*",
    ),
    (
        "elementwise",
        r"(?i).*(geglu|guided_step|resize_normalize|elementwise|reduce_|softmax|multi_tensor|upsample|pool|triton_(poi|red|per)_"
        r"|distribution_).*",
    ),
]
_RULES = [(name, re.compile(pattern)) for name, pattern in _TABLE]


def family(name: str) -> str:
    """Return the family of an operator or kernel as torch's profiler names it: the first rule that fits decides."""
    return next((found for found, pattern in _RULES if pattern.fullmatch(name)), OTHER)
