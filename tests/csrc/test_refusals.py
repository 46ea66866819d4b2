"""The compiled functions refuse arguments that they would read wrongly, because they can be called without the ops."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import diffexplain_fast.ops  # noqa: F401 - loads the library
from diffexplain_fast.ops._load import CPP_MISSING

pytestmark = pytest.mark.skipif(bool(CPP_MISSING), reason=CPP_MISSING)
RAW = torch.ops.diffexplain_fast
IMAGE = torch.ones(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)
ROWS, COLUMN, FOUR, PAIR = torch.ones(6, 4), torch.ones(6), torch.ones(4), torch.ones(2, 2)
HEADS = torch.ones(1, 3, 2, 4)


def group_norm(x: Any = IMAGE, skip: Any = None, weight: Any = FOUR, groups: int = 2) -> Any:
    return RAW.group_norm_silu_fwd(x, skip, None, weight, FOUR, groups, 1e-5, True)


def group_norm_backward(dy: Any) -> Any:
    return RAW.group_norm_silu_bwd(dy, IMAGE, None, None, FOUR, FOUR, PAIR, PAIR, 2, True)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "another layout": (lambda: group_norm(IMAGE.contiguous()), "x: wanted a dense channels-last tensor"),
    "groups": (lambda: group_norm(groups=3), "num_groups: wanted a divisor of 4, got 3"),
    "another size of skip": (lambda: group_norm(skip=IMAGE[:1]), "skip: wanted size 2 in dimension 0, got 1"),
    "another size of dy": (lambda: group_norm_backward(IMAGE[:1]), "dy: wanted size 2 in dimension 0, got 1"),
    "weights of another dtype": (lambda: group_norm(weight=FOUR.half()), "weight: wanted the dtype of x, or float32"),
    "columns": (lambda: RAW.layer_norm_fwd(ROWS.T, COLUMN, COLUMN, 1e-5), "x: wanted a contiguous tensor"),
    "another mean": (lambda: RAW.layer_norm_bwd(ROWS, ROWS, FOUR, FOUR, COLUMN), "mean: wanted size 6"),
    "transposed": (lambda: RAW.geglu_fwd(ROWS.T), "wanted a contiguous tensor"),
    "another dy": (lambda: RAW.geglu_bwd(ROWS[:5, :2].clone(), ROWS), "dy: wanted size 6 in dimension 0, got 5"),
    "no key": (lambda: RAW.attention_fwd(HEADS, HEADS[:, :0], HEADS[:, :0], 1.0), "k: wanted at least one key"),
    "wide steps": (lambda: RAW.attention_fwd(HEADS.mT, HEADS.mT, HEADS.mT, 1.0), "columns side by side"),
    "coefficients": (
        lambda: RAW.guided_step_fwd(IMAGE.contiguous(), IMAGE.contiguous(), None, None, FOUR),
        "coefficients",
    ),
    "an odd side": (lambda: RAW.interleave_bwd(IMAGE), "dy: wanted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_argument_of_a_compiled_function_is_refused_by_name(name: str) -> None:
    call, said = REFUSED[name]
    with pytest.raises(RuntimeError, match=said):
        call()
