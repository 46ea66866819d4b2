"""Every op under torch.compile and torch.export: transforms refused as in eager calls, autocast, and batches of any
size."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from diffexplain_fast import ops
from diffexplain_fast.ops._constants import constant
from tests.ops.test_autograd import HEADS, OWN, PLAIN, WAYS, Function, pull

EVERY = OWN | PLAIN
WARNINGS = (
    "ignore:.*should not be instantiated:DeprecationWarning",  # torch's own tracing does it
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning",  # by torch's forward mode
)
pytestmark = pytest.mark.filterwarnings(*WARNINGS)
REFUSED = "wanted torch.autograd.grad or Tensor.backward.*, got a "


class Module(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("way", ["grad", "vjp", "jvp", "vmap", "jacrev", "forward mode"])
@pytest.mark.parametrize("name", OWN)
def test_a_compiled_transform_is_refused_by_the_ops_name(name: str, way: str) -> None:
    function, x = OWN[name]
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match=f"^{name}: {REFUSED}"):
        torch.compile(lambda x: WAYS[way](function, x), backend="eager")(x)


@pytest.mark.parametrize("way", ["grad", "vmap", "forward mode"])
def test_a_transform_of_a_compiled_op_is_refused_although_it_was_traced_without_one(way: str) -> None:
    function, x = OWN["geglu"]
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="eager")
    assert torch.equal(compiled(x), function(x))
    with pytest.raises(RuntimeError, match=f"^geglu: {REFUSED}"):
        WAYS[way](compiled, x)
    assert torch.equal(compiled(x), function(x))


def test_a_compiled_transform_of_the_queries_alone_is_refused() -> None:
    """Its gradient was 0, because nothing of the transform reached the backward."""
    torch._dynamo.reset()
    gradient = torch.func.grad(lambda q: ops.attention(q, HEADS, HEADS).square().sum())
    with pytest.raises(RuntimeError, match=f"^attention: {REFUSED}"):
        torch.compile(gradient, backend="eager")(HEADS + 1)


@pytest.mark.parametrize("name", EVERY)
def test_autocast_does_not_change_a_compiled_op(name: str) -> None:
    function, x = EVERY[name]
    x = x.clone().requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = compiled(x)
    assert torch.equal(y, function(x))
    if name in OWN:  # torch runs the backward of its own functions in the autocast of the forward
        assert torch.equal(pull(y, x), pull(function(x), x))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_an_exported_op_takes_batches_of_any_size(name: str, strict: bool) -> None:
    function, x = EVERY[name]
    batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
    exported = torch.export.export(Module(function), (x,), dynamic_shapes=batch, strict=strict)
    for given in (x[:1], torch.cat([x, x + 1, x])):
        torch.testing.assert_close(exported.module()(given), function(given), rtol=1e-5, atol=1e-5)


def test_what_is_kept_for_later_calls_has_numbers_after_a_call_without_them() -> None:
    def made() -> tuple[Tensor, Tensor]:
        x = torch.ones(1, 11, 13)
        return ops.resize(x, (7, 17)), constant((0.125, 0.25), x.dtype, x.device)

    with FakeTensorMode():
        made()
    resized, numbers = made()
    assert torch.allclose(resized, torch.ones(1, 7, 17)) and numbers.tolist() == [0.125, 0.25]
    assert made()[1] is numbers
