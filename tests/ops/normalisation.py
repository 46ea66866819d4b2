"""The tests that every norm must pass, in addition to the contract of the ops."""

from typing import Any, ClassVar

import pytest
import torch

from diffexplain_fast.ops._load import CPP_MISSING
from tests.ops.calls import Call, device_of, evaluate
from tests.ops.contract import OwnKernels


class Normalisation(OwnKernels):
    """An op with a mean and a variance; ``make`` takes the mean of the input."""

    wide: ClassVar[dict[str, Any]]
    """Sizes with many elements for each mean."""
    large: ClassVar[dict[str, Any]]
    """Sizes above 2^20 elements per image, larger than the caches, for which the C++ kernels visit rows in another
    order."""

    def test_a_mean_far_from_zero_costs_no_more_than_its_rounding(self, impl: str) -> None:
        """The difference of two squares, E[x^2] - E[x]^2, would have a thousand times the error."""
        mean = 1000.0
        call = self.at(self.first(), torch.float32, device_of(impl), mean=mean, **self.wide)
        (y,), _, _ = evaluate(self.by(impl), call)
        (truth,), _, _ = evaluate(self.plain, call.double())
        assert (y - truth).abs().max() <= 16 * torch.finfo(torch.float32).eps * mean

    def test_eps_changes_the_result_as_in_plain_pytorch(self, impl: str) -> None:
        call = self.at(self.first(), torch.float32, device_of(impl))
        call.fixed["eps"] = 0.5
        made, grads, cotangents = evaluate(self.by(impl), call)
        expected, expected_grads, _ = evaluate(self.plain, call, cotangents)
        for got, wanted in zip((*made, *grads), (*expected, *expected_grads), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)

    def test_float64_takes_float32_weights(self, case: str, impl: str) -> None:
        """Also a shift, which for this op is an input."""
        if impl in ("triton", "cuda"):
            pytest.skip("float64 is for the CPU")
        call = self.at(case, torch.float64)
        for arguments in call:
            arguments.update(
                {name: arguments[name].float() for name in ("weight", "bias", "shift") if name in arguments}
            )
        made, grads, cotangents = evaluate(self.by(impl), call)
        expected, expected_grads, _ = evaluate(self.plain, call.double(), cotangents)
        for got, wanted in zip((*made, *grads), (*expected, *expected_grads), strict=True):
            exact = 1e-12 if got.dtype == torch.float64 else 1e-6
            torch.testing.assert_close(got.double(), wanted, rtol=exact, atol=exact)

    @pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
    @pytest.mark.parametrize(
        ("precision", "size"), [(torch.float32, 1e30), (torch.bfloat16, 1e30), (torch.float64, 1e200)]
    )
    def test_squares_that_overflow_give_the_right_result_or_nan(
        self, impl: str, precision: torch.dtype, size: float
    ) -> None:
        """The result is right on the CPU; GPU kernels give NaN, but never silently only the bias."""
        if impl in ("triton", "cuda") and precision != torch.float32:
            pytest.skip("the range of bfloat16 is that of float32, and float64 is for the CPU")
        call = self.at(self.first(), precision, device_of(impl))
        for name, value in call.inputs.items():
            call.inputs[name] = size * value
        (y,), grads, cotangents = evaluate(self.by(impl), call)
        if impl in ("triton", "cuda"):
            assert y.isnan().any() and not y.isinf().any()
            return
        small = Call({name: value.double() / size for name, value in call.inputs.items()}, call.double().fixed)
        small.fixed["eps"] = 1e-300
        (truth,), true_grads, _ = evaluate(self.plain, small, tuple(dy.double() for dy in cotangents))
        bound = 8 * torch.finfo(precision).eps
        pairs = [
            (y.double(), truth),
            *((got.double() * size, true) for got, true in zip(grads, true_grads, strict=True)),
        ]
        assert all((got - true).norm() <= bound * true.norm() for got, true in pairs)

    @pytest.mark.skipif(bool(CPP_MISSING), reason=CPP_MISSING)
    def test_tensors_larger_than_the_caches_are_within_budget(self) -> None:
        self.compare("cpp", lambda: self.at(self.first(), torch.float32, **self.large))
