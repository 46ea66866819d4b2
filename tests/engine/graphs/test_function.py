"""Functions around the sampler, recorded and replayed with a recorder that runs the function again, on the CPU."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from diffexplain_fast.engine.graphs.function import Graphed
from diffexplain_fast.engine.graphs.policy import Graphs
from tests.engine.graphs.test_recording import BUSY, FIRST, REPLAYED, Failing, Forgetful, Rerun


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double().requires_grad_(False)


@pytest.fixture
def graphed(model):
    Rerun.recorded = 0
    return Graphed(lambda x, y: (model(x) * y, x.square().sum(1)), model, graphs=Graphs("auto", Rerun))


def drawn(seed, rows=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, dtype=torch.float64, generator=generator).requires_grad_()
    return x, torch.randn(rows, 3, dtype=torch.float64, generator=generator)


def gradient(function, x, y):
    """Results and the gradient of a loss of both of them."""
    first, second = function(x, y)
    loss = first.square().sum() + second.sum()
    return first.detach(), second.detach(), torch.autograd.grad(loss, x)[0]


def states_of(graphed, calls):
    """Run calls, compare each with the function itself; what the graphs did in each."""
    found = []
    for call in calls:
        for got, wanted in zip(gradient(graphed, *call), gradient(graphed._function, *call), strict=True):
            assert torch.equal(got, wanted)
        found.append(graphed.state)
    return found


def test_a_replay_with_other_contents_is_exact(graphed):
    assert states_of(graphed, [drawn(seed) for seed in range(4)]) == [FIRST, REPLAYED, REPLAYED, REPLAYED]
    assert Rerun.recorded == 1


def test_another_shape_gradient_or_setting_is_another_kind(graphed, monkeypatch):
    x, y = drawn(0)
    calls = [(x, y)] * 2 + [drawn(1, rows=3)] * 2 + [(x, y), (x, y.clone().requires_grad_())]
    assert states_of(graphed, calls) == [FIRST, REPLAYED, FIRST, REPLAYED, FIRST, FIRST]
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert states_of(graphed, [(x, y)]) == [FIRST]


def test_under_autocast_a_replay_casts_the_contents_of_its_own_call():
    """autocast remembers its copy of a float32 leaf, also that of a recording's static tensor with older contents."""
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    graphed = Graphed(lambda x, y: (x @ weight.t() * y, x.square().sum(1)), graphs=Graphs("auto", Rerun))
    calls = [
        tuple(part.detach().float().requires_grad_(part.requires_grad) for part in drawn(seed)) for seed in range(4)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        assert states_of(graphed, calls) == [FIRST, REPLAYED, REPLAYED, REPLAYED]
        assert torch.is_autocast_cache_enabled()


def test_every_input_that_requires_grad_gets_its_gradient(graphed):
    x, y = (part.detach().requires_grad_() for part in drawn(0))
    for _ in range(3):
        first, _ = graphed(x, y)
        dx, dy = torch.autograd.grad(first.sum(), (x, y))
        wanted = torch.autograd.grad(graphed._function(x, y)[0].sum(), (x, y))
        assert torch.equal(dx, wanted[0]) and torch.equal(dy, wanted[1])
    assert graphed.state == REPLAYED


def test_an_unused_input_has_no_gradient(model):
    graphed = Graphed(lambda x, y: (model(x),), model, graphs=Graphs("auto", Rerun))
    for _ in range(3):
        x, y = (part.detach().requires_grad_() for part in drawn(0))
        graphed(x, y)[0].sum().backward()
        assert x.grad is not None and y.grad is None
    assert graphed.state == REPLAYED


def test_two_calls_before_a_backward_do_not_share_a_recording(graphed):
    states_of(graphed, [drawn(0), drawn(1)])
    (x, y), (z, w) = drawn(2), drawn(3)
    first = graphed(x, y)[0]
    second = graphed(z, w)[0]
    assert graphed.state == BUSY
    for out, leaf, other in ((first, x, y), (second, z, w)):
        (got,) = torch.autograd.grad(out.sum(), leaf)
        assert torch.equal(got, torch.autograd.grad(graphed._function(leaf, other)[0].sum(), leaf)[0])
    assert states_of(graphed, [drawn(4)]) == [REPLAYED]


def test_results_are_not_overwritten_by_the_next_replay(graphed):
    states_of(graphed, [drawn(0), drawn(1)])
    before = graphed(*drawn(2))[0].detach()
    kept = before.clone()
    gradient(graphed, *drawn(3))
    assert graphed.state == REPLAYED and torch.equal(before, kept)


def test_later_backwards_run_the_function_again(graphed, model):
    states_of(graphed, [drawn(0), drawn(1)])
    x, y = drawn(2)
    y.requires_grad_()
    (wanted,) = torch.autograd.grad(graphed._function(x, y)[0].square().sum(), x)
    states_of(graphed, [(x, y)] * 2)
    out = graphed(x, y)[0].square().sum()
    assert graphed.state == REPLAYED
    assert torch.equal(torch.autograd.grad(out, x, retain_graph=True)[0], wanted)
    other = graphed(*drawn(3))[0]  # meanwhile the recording holds another call
    assert torch.equal(torch.autograd.grad(out, (x, y), retain_graph=True)[0], wanted)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    with pytest.raises(RuntimeError, match="a module was edited between the recorded call and its backward"):
        torch.autograd.grad(out, x)
    del other


@pytest.mark.parametrize("by_data", [False, True])
def test_a_module_edited_before_the_first_backward_raises(graphed, model, by_data):
    """The replay of the backward reads the weights."""
    states_of(graphed, [drawn(0), drawn(1)])
    x, y = drawn(2)
    (wanted,) = torch.autograd.grad(graphed._function(x, y)[0].square().sum(), x)
    out = graphed(x, y)[0].square().sum()
    before = model[0].weight.detach().clone()
    (model[0].weight.data if by_data else model[0].weight.detach()).mul_(1.5)
    with pytest.raises(RuntimeError, match="a module was edited between the recorded call and its backward"):
        torch.autograd.grad(out, x, retain_graph=True)
    if by_data:
        model[0].weight.data.copy_(before)  # undone, so that the values are those of the call
        assert torch.equal(torch.autograd.grad(out, x)[0], wanted)


def test_checkpointing_around_a_recorded_function_gives_the_same_gradient(graphed):
    states_of(graphed, [drawn(0), drawn(1)])
    x, y = drawn(2)
    (wanted,) = torch.autograd.grad(graphed._function(x, y)[0].square().sum(), x)
    out = checkpoint(lambda x: graphed(x, y)[0].square(), x, use_reentrant=False).sum()
    assert torch.equal(torch.autograd.grad(out, x, retain_graph=True)[0], wanted)
    assert torch.equal(torch.autograd.grad(out, x)[0], wanted)


def test_a_transformed_call_runs_the_function_itself(graphed):
    states_of(graphed, [drawn(0), drawn(1)])
    x, y = drawn(2)
    (wanted,) = torch.autograd.grad(graphed._function(x, y)[0].sum(), x)
    assert torch.allclose(torch.func.grad(lambda x: graphed(x, y)[0].sum())(x.detach()), wanted)
    rows = graphed(x, y)[0]
    with pytest.raises(RuntimeError, match=r"^a recorded function: wanted .* got a batch"):
        torch.autograd.grad(rows[0], x, torch.eye(3, dtype=x.dtype), is_grads_batched=True)


def test_a_replay_has_no_second_derivative(graphed):
    states_of(graphed, [drawn(0), drawn(1)])
    x, y = drawn(2)
    (dx,) = torch.autograd.grad(graphed(x, y)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        dx.sum().backward()


def test_an_edited_module_is_recorded_again(graphed, model):
    states_of(graphed, [drawn(0), drawn(1)])
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    assert states_of(graphed, [drawn(0), drawn(1)]) == [FIRST, REPLAYED]
    model[2].weight.data = model[2].weight.data.clone()
    assert states_of(graphed, [drawn(0), drawn(1)]) == [FIRST, REPLAYED]


def test_a_module_with_a_hook_is_not_recorded(graphed, model):
    ran = []
    handle = model[1].register_forward_hook(lambda *_: ran.append(1))
    assert states_of(graphed, [drawn(0), drawn(1)]) == ["eager: a hook on 1"] * 2 and len(ran) == 4
    handle.remove()
    assert states_of(graphed, [drawn(0), drawn(1)]) == [FIRST, REPLAYED]


def test_calls_without_a_gradient_are_not_recorded(graphed):
    x, y = drawn(0)
    with torch.no_grad():
        graphed(x, y)
    graphed(x.detach(), y)
    assert graphed.state == "no call yet"


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Forgetful, "its replay gave something else than the call itself, the forward is"),
        (Failing, "operation not permitted when stream is capturing"),
    ],
)
def test_a_function_that_cannot_be_recorded_runs_eager_and_says_why(graphed, recorder, reason):
    graphed._graphs = Graphs("auto", recorder)
    failed = f"eager: recording failed: {reason}"
    first, *found = states_of(graphed, [drawn(seed) for seed in range(3)])
    assert first == FIRST and len(found) == 2 and all(state.startswith(failed) for state in found)


def test_a_result_without_a_gradient_runs_eager_and_says_why(model):
    graphed = Graphed(lambda x: (model(x), x.detach()), model, graphs=Graphs("auto", Rerun))
    x, _ = drawn(0)
    for _ in range(2):
        graphed(x)
    assert graphed.state == "eager: recording failed: a result carries no gradient"


def test_a_result_that_is_not_a_tuple_of_tensors_is_refused(model):
    graphed = Graphed(lambda x: model(x), model, graphs=Graphs("auto", Rerun))
    x, _ = drawn(0)
    graphed(x)
    with pytest.raises(TypeError, match="function: wanted one that returns a tuple of tensors, got Tensor"):
        graphed(x)
    with pytest.raises(TypeError, match="modules: wanted torch modules, got"):
        Graphed(model, "model")


def test_a_recording_is_freed_with_its_function(model):
    graphed = Graphed(lambda x: (model(x),), model, graphs=Graphs("auto", Rerun))
    for seed in range(2):
        graphed(drawn(seed)[0])[0].sum().backward()
    static = weakref.ref(graphed._graphs._recording._static[0])
    del graphed
    gc.collect()
    assert static() is None


def test_nothing_is_recorded_on_the_cpu(model):
    graphed = Graphed(lambda x: (model(x),), model)
    graphed(drawn(0)[0])
    assert graphed.state == "eager: graphs need tensors on a CUDA device, not on cpu"
