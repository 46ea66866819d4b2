"""Guidance and a step, compared with their formulas, and the adjoint if a loss uses only one result."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import GuidedStep, guided_step
from diffexplain_fast.ops.reference import guided_step as reference
from tests.ops.calls import SIDES, Call, device_of, size_of, variants
from tests.ops.contract import OwnKernels

_SMALL = {"n": 2, "channels": 2, "height": 3, "width": 2}


class TestGuidedStep(OwnKernels):
    op = "guided_step"
    run = staticmethod(guided_step)
    linear = True
    frozen = ()
    cases: ClassVar = {
        "guided": {**_SMALL, "guided": True, "before": True, "noise": True},
        "plain": {**_SMALL, "guided": False, "before": False, "noise": False},
    }
    sizes = st.fixed_dictionaries(
        {
            "n": SIDES,
            "channels": st.sampled_from([1, 4]),
            "height": st.sampled_from([1, 8, 9]),
            "width": st.sampled_from([1, 7, 63]),
            "guided": st.booleans(),
            "before": st.booleans(),
            "noise": st.booleans(),
        }
    )
    bad: ClassVar = {
        "no tensor": ({"sample": 1.0}, TypeError, "sample", "float"),
        "no output": ({"output": None}, TypeError, "output", "NoneType"),
        "no coefficients": ({"coefficients": [1.0] * 8}, TypeError, "coefficients", "list"),
        "noise": ({"noise": 0.0}, TypeError, "noise", "float"),
        "half": (
            {name: lambda t: t.half() for name in ("sample", "coefficients", "before", "noise")},
            ValueError,
            "sample",
            "torch.float16",
        ),
        "rank": ({"sample": lambda sample: sample[0]}, ValueError, "sample", r"torch.float32 \[2, 3, 2\]"),
        "output's shape": ({"output": lambda output: output[1:]}, ValueError, "output", r"\[3, 2, 3, 2\]"),
        "output's dtype": ({"output": lambda output: output.long()}, ValueError, "output", "torch.int64"),
        "coefficients' dtype": ({"coefficients": lambda c: c.double()}, ValueError, "coefficients", "torch.float64"),
        "seven": ({"coefficients": lambda c: c[1:]}, ValueError, "coefficients", r"torch.float32 \[7\]"),
        "before": ({"before": lambda before: before[:1]}, ValueError, "before", r"torch.float32 \[1, 2, 3, 2\]"),
        "noise, trained": (
            {"noise": lambda noise: noise.requires_grad_()},
            ValueError,
            "noise",
            "one that requires grad",
        ),
        "coefficients, trained": (
            {"coefficients": lambda coefficients: coefficients.requires_grad_()},
            ValueError,
            "coefficients",
            "one that requires grad",
        ),
        "impl": ({"impl": "sdpa"}, ValueError, "impl", "'sdpa'"),
    }

    def make(
        self,
        dtype: torch.dtype,
        *,
        n: int,
        channels: int,
        height: int,
        width: int,
        guided: bool,
        before: bool,
        noise: bool,
    ) -> Call:
        wide, shape = torch.promote_types(dtype, torch.float32), (n, channels, height, width)
        sample, previous, normal = (torch.randn(shape, dtype=wide) for _ in range(3))
        output = torch.randn((1 + guided) * n, *shape[1:], dtype=dtype)
        inputs = {"sample": sample, "output": output} | ({"before": previous} if before else {})
        coefficients = torch.tensor([7.5, 0.9, -0.4, 0.3, 0.2, 1.1, -0.6, 0.8], dtype=wide)
        return Call(inputs, {"coefficients": coefficients} | ({"noise": normal} if noise else {}))

    def plain(
        self,
        sample: Tensor,
        output: Tensor,
        coefficients: Tensor,
        before: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> GuidedStep:
        g, a, b, p, s, of_sample, of_output, _ = coefficients
        o = output.to(sample.dtype)
        if len(output) != len(sample):
            u, c = o.chunk(2)
            o = u + g * (c - u)
        following = a * sample + b * o
        following = following if before is None else following + p * before
        following = following if noise is None else following + s * noise
        return GuidedStep(following, of_sample * sample + of_output * o)

    def kept(self, call: Call) -> int:
        return size_of(call.fixed["coefficients"])

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        sample, output, coefficients = call.inputs["sample"], call.inputs["output"], call.fixed["coefficients"]
        forward = (sample, output, call.inputs.get("before"), call.fixed.get("noise"), coefficients)
        ddata = torch.randn_like(sample) if "before" in call.inputs else None
        backward = (torch.randn_like(sample), ddata, coefficients, len(output) != len(sample), output)
        return {
            "guided_step_fwd": (reference.guided_step_fwd, forward),
            "guided_step_bwd": (reference.guided_step_bwd, backward),
        }


class OneOutput(TestGuidedStep):
    """The op with only one of its two results."""

    def __init__(self, name: str) -> None:
        self.run = lambda **arguments: getattr(guided_step(**arguments), name)
        self.plain = lambda **arguments: getattr(TestGuidedStep.plain(self, **arguments), name)


@pytest.mark.parametrize("name", GuidedStep._fields)
@pytest.mark.parametrize("impl", variants("guided_step"))
def test_a_loss_may_use_only_one_of_the_two_results(impl: str, name: str) -> None:
    one = OneOutput(name)
    one.compare(impl, lambda: one.at("guided", torch.float32, device_of(impl), before=False))
