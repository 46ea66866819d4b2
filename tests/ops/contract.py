"""The tests that every op must pass in each implementation that runs here; the test class of an op only describes
it."""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, library
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from diffexplain_fast.ops._impl import interpreted, raw
from tests.budget import assert_within_budget
from tests.ops.calls import (
    CPU,
    DTYPES,
    LAYOUTS,
    Call,
    Idle,
    device_of,
    evaluate,
    kept_bytes,
    laid_out,
    outputs,
    significant,
    variants,
)

_EXAMPLES, _INTERPRETED_EXAMPLES = 12, 5
_SAMPLE, _REPEATS = 64, 16
"""How many numbers estimate an error, and the largest number of calls for them."""
_CONFIRMATIONS = 4
"""How often a biased error is drawn again: a true bias stays, but errors that share a mean or a row do not."""


class Contract:
    """The tests; a subclass named ``Test...`` is collected."""

    op: ClassVar[str] = ""
    """Name in ``OFFERED``; empty for an op that only calls torch."""
    run: ClassVar[Callable[..., Any]]
    """The op."""
    cases: ClassVar[dict[str, dict[str, Any]]]
    """Small sizes and flags for ``make``, by name; ``n`` is the batch."""
    sizes: ClassVar[st.SearchStrategy[dict[str, Any]]]
    """Drawn sizes and flags for ``make``."""
    frozen: ClassVar[tuple[str, ...]] = ("weight", "bias")
    """Arguments that belong to the network, so that keeping them costs nothing."""
    dtypes: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    bad: ClassVar[dict[str, tuple[dict[str, Any], type[Exception], str, str]]]
    """Changed arguments (a function gets the good value), exception, named argument and got value, by name."""

    def make(self, dtype: torch.dtype, **size: Any) -> Call:
        """Return a call with random values."""
        raise NotImplementedError

    def plain(self, **arguments: Any) -> Any:
        """Return the result of plain PyTorch: the expression under "Equivalent to"."""
        raise NotImplementedError

    def kept(self, call: Call) -> int:
        """Return the bytes that the op may keep."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Fill in ``impl``, ``case``, ``dtype`` and ``fault`` from the subclass."""
        values = {"impl": variants(self.op), "case": self.cases, "dtype": self.dtypes, "fault": self.bad}
        values["kernel"] = [impl for impl in values["impl"] if impl.values[0] in ("triton", "cuda", "cpp")]
        traceable = [impl for impl in values["impl"] if impl.values[0] != "triton" or not interpreted()]
        values["traced"] = [*traceable, "auto"] if self.op else traceable
        for name, options in values.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, options)

    def first(self) -> str:
        return next(iter(self.cases))

    def at(self, name: str, dtype: torch.dtype, device: torch.device = CPU, **changes: Any) -> Call:
        with device:
            return self.make(dtype, **(self.cases[name] | changes))

    def by(self, impl: str) -> Callable[..., Any]:
        options = {"impl": impl} if self.op else {}
        return lambda **arguments: self.run(**arguments, **options)

    def test_gradcheck_of_the_reference(self, case: str) -> None:
        call = self.at(case, torch.float64)
        inputs = tuple(value.requires_grad_() for value in call.inputs.values())

        def function(*values: Tensor) -> tuple[Tensor, ...]:
            return outputs(self.by("reference")(**dict(zip(call.inputs, values, strict=True)), **call.fixed))

        assert torch.autograd.gradcheck(function, inputs)

    def test_the_reference_equals_the_plain_expression(self, case: str) -> None:
        call = self.at(case, torch.float64)
        made, grads, cotangents = evaluate(self.by("reference"), call)
        expected, expected_grads, _ = evaluate(self.plain, call, cotangents)
        for got, wanted in zip((*made, *grads), (*expected, *expected_grads), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)

    @pytest.mark.usefixtures("poisoned_memory")
    def test_values_and_gradients_are_within_budget(self, impl: str, dtype: str) -> None:
        interpreter = impl == "triton" and interpreted()
        if interpreter and dtype != "fp32":
            pytest.skip(
                "Triton's interpreter computes bfloat16 wrongly; tests/kernels goes round that, and has float16"
            )

        @hypothesis.settings(
            max_examples=_INTERPRETED_EXAMPLES if interpreter else _EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(hypothesis.Phase.generate,),  # shrinking a case in the interpreter takes minutes
        )
        @hypothesis.given(st.integers(0, 99), self.sizes, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
        def check(seed: int, size: dict[str, Any], layout: str, of_cotangents: str) -> None:
            torch.manual_seed(seed)

            def draw() -> Call:
                with device_of(impl):
                    call = self.make(DTYPES[dtype], **size)
                return Call({name: laid_out(value, layout) for name, value in call.inputs.items()}, call.fixed)

            for _ in range(_CONFIRMATIONS):
                try:
                    return self.compare(impl, draw, of_cotangents)
                except AssertionError as error:
                    if not re.search(" (bias|gain) error ", str(error)):
                        raise
            self.compare(impl, draw, of_cotangents)

        check()

    def compare(self, impl: str, draw: Callable[[], Call], of_cotangents: str = "contiguous") -> None:
        """Compare an implementation with plain PyTorch in the same dtype and in float64; its arguments must not change.

        Small calls are drawn again, because for a few numbers plain PyTorch may be exact by luck.
        """
        call, found = draw(), []
        smallest = min(value.numel() for value in call.inputs.values())
        for _ in range(min(_REPEATS, -(-_SAMPLE // smallest))):
            before = call.double()
            made, grads, cotangents = evaluate(self.by(impl), call, layout=of_cotangents)
            plain, plain_grads, _ = evaluate(self.plain, call, cotangents)
            truth, true_grads, _ = evaluate(self.plain, before, tuple(dy.double() for dy in cotangents))
            found.append(zip((*made, *grads), (*plain, *plain_grads), (*truth, *true_grads), strict=True))
            for value, old in zip(tree_leaves(tuple(call)), tree_leaves(tuple(before)), strict=True):
                assert not isinstance(value, Tensor) or torch.equal(value.double(), old), "an argument was written to"
            call = draw()
        names = [f"output {i}" for i in range(len(made))] + [f"gradient of {name}" for name in call.inputs]
        for name, *draws in zip(names, *found, strict=True):
            got, same, true = (torch.stack(parts) for parts in zip(*draws, strict=True))
            assert_within_budget(name, got, same, true, factor=3.0 if "gradient" in name else 2.0)

    def test_kernels_compute_float64_in_float64(self, case: str, kernel: str) -> None:
        if kernel != "cpp":
            pytest.skip("computes in float32 at most")
        call = self.at(case, torch.float64)
        made, grads, cotangents = evaluate(self.by(kernel), call)
        expected, expected_grads, _ = evaluate(self.plain, call, cotangents)
        for got, wanted in zip((*made, *grads), (*expected, *expected_grads), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)

    def test_equal_calls_have_equal_bits(self, impl: str) -> None:
        call = self.at(self.first(), torch.float32, device_of(impl))
        made, grads, cotangents = evaluate(self.by(impl), call)
        again, grads_again, _ = evaluate(self.by(impl), call, cotangents)
        assert all(torch.equal(*pair) for pair in zip((*made, *grads), (*again, *grads_again), strict=True))

    def test_autocast_around_the_call_changes_nothing(self, case: str, impl: str) -> None:
        call = self.at(case, torch.float32, device_of(impl))
        made, grads, cotangents = evaluate(self.by(impl), call)

        def mixed(**arguments: Any) -> Any:
            with torch.autocast(device_of(impl).type, dtype=torch.bfloat16):
                return self.by(impl)(**arguments)

        again, grads_again, _ = evaluate(mixed, call, cotangents)
        assert all(torch.equal(*pair) for pair in zip((*made, *grads), (*again, *grads_again), strict=True))

    def test_an_empty_batch_stays_empty(self, case: str, impl: str) -> None:
        call = self.at(case, torch.float32, device_of(impl), n=0)
        made, grads, _ = evaluate(self.by(impl), call)
        expected, _, _ = evaluate(self.plain, call)
        assert [(y.shape, y.dtype) for y in made] == [(y.shape, y.dtype) for y in expected]
        assert all(map(torch.equal, grads, call.inputs.values()))

    def test_the_op_keeps_exactly_the_bytes_of_its_contract(self, case: str, impl: str, dtype: str) -> None:
        call = self.at(case, DTYPES[dtype], device_of(impl))
        for value in call.inputs.values():
            value.requires_grad_()
        own = {
            leaf.untyped_storage().data_ptr()
            for name in self.frozen
            for leaf in tree_leaves(call.fixed.get(name))
            if isinstance(leaf, Tensor)
        }
        assert kept_bytes(lambda: self.by(impl)(**call.arguments()), own) == self.kept(call)

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does it
    def test_the_op_compiles_without_a_graph_break(self, case: str, traced: str) -> None:
        call = self.at(case, torch.float32, device_of(traced))
        torch._dynamo.reset()
        compiled = torch.compile(self.by(traced), fullgraph=True, backend="aot_eager")
        made, grads, cotangents = evaluate(self.by(traced), call)
        traced, traced_grads, _ = evaluate(compiled, call, cotangents)
        for got, wanted in zip((*traced, *traced_grads), (*made, *grads), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
            assert significant(got) == significant(wanted)

    def test_bad_arguments_are_named(self, fault: str) -> None:
        changes, error, name, got = self.bad[fault]
        arguments = self.at(self.first(), torch.float32).arguments()
        for key, change in changes.items():
            arguments[key] = change(arguments[key]) if callable(change) else change
        with pytest.raises(error, match=rf"^{name}: wanted .+, got {got}"):
            self.run(**arguments)


class OwnBackward(Contract):
    """An op with an ``autograd.Function``."""

    linear: ClassVar[bool] = False

    def test_autocast_around_the_backward_changes_nothing(self, impl: str) -> None:
        call = self.at(self.first(), torch.float32, device_of(impl))
        made, grads, cotangents = evaluate(self.by(impl), call)
        with torch.autocast(device_of(impl).type, dtype=torch.bfloat16):
            again, grads_again, _ = evaluate(self.by(impl), call, cotangents)
        assert all(torch.equal(*pair) for pair in zip((*made, *grads), (*again, *grads_again), strict=True))

    @pytest.mark.parametrize("loss", [torch.sum, lambda y: y.square().sum()], ids=["sum", "squares"])
    def test_a_second_derivative_raises(self, impl: str, loss: Callable[[Tensor], Tensor]) -> None:
        """Also for a sum, whose cotangents need no gradient; only a linear op has no second derivative."""
        call = self.at(self.first(), torch.float32, device_of(impl))
        for value in call.inputs.values():
            value.requires_grad_()
        losses = [loss(y) for y in outputs(self.by(impl)(**call.arguments()))]
        grads = torch.autograd.grad(losses, list(call.inputs.values()), create_graph=True)
        if self.linear and loss is torch.sum:
            assert not any(grad.requires_grad for grad in grads)
            return
        inputs = list(call.inputs.values())
        for grad in grads:
            with pytest.raises(RuntimeError, match="no second derivative"):
                grad.sum().backward(retain_graph=True)
            with pytest.raises(RuntimeError, match="no second derivative"):  # together with a term that has one
                both = grad.sum() + sum(value.square().sum() for value in inputs)
                torch.autograd.grad(both, inputs, retain_graph=True)


class OwnKernels(OwnBackward):
    """An op with registered functions."""

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        """Return the reference and the arguments of each raw function of the op, by name."""
        raise NotImplementedError

    def test_registered_functions_pass_opcheck(self, case: str, kernel: str) -> None:
        for name, (_, arguments) in self.raw(self.at(case, torch.float32, device_of(kernel))).items():
            library.opcheck(raw(name, kernel, self.run).default, arguments)

    def test_the_reference_ends_in_no_call_that_returns_its_input(self, case: str) -> None:
        """For example .to() with its own dtype: torch 2.11 compiles a gradient of zero for a custom backward."""
        for name, (reference, arguments) in self.raw(self.at(case, torch.float32)).items():
            with Idle() as mode:
                made = outputs(reference(*arguments))
            assert name.endswith("_bwd") or not any(one is y for one in mode.results for y in made), name

    def test_fakes_have_the_shapes_and_strides_of_the_reference(self, case: str) -> None:
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            for name, (reference, arguments) in self.raw(self.at(case, dtype)).items():
                with FakeTensorMode() as mode:
                    fakes = tree_map_only(Tensor, mode.from_tensor, arguments)
                    made = [raw(name, impl, reference).default(*fakes) for impl in ("cpp", "triton")]
                for fake in made:
                    pairs = zip(outputs(fake), outputs(reference(*arguments)), strict=True)
                    assert all(significant(got) == significant(wanted) for got, wanted in pairs), name
