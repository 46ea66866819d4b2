"""Eval mode without weight gradients while the context is open, and every flag restored afterwards."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.prune import l1_unstructured

from diffexplain_fast.models.frozen import copied, frozen, trainable
from tests.tiny import seeded


def unusual() -> nn.Sequential:
    """A model whose submodules have different modes and flags, with a shared and a parametrised layer."""
    shared = nn.Conv2d(3, 3, 1)
    model = seeded(
        lambda: nn.Sequential(
            shared, nn.BatchNorm2d(3), nn.Dropout(0.5), shared, parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
        )
    )
    model.train()
    model[2].eval()
    shared.bias.requires_grad_(False)
    return model


def state(model: nn.Module) -> list:
    return [
        *((name, part.training, dict(part._forward_hooks)) for name, part in model.named_modules()),
        *((name, weight.requires_grad, weight._version, weight.clone()) for name, weight in model.named_parameters()),
        *((name, value._version) for name, value in model.named_buffers()),
    ]


def test_inside_the_context_nothing_trains() -> None:
    model = unusual()
    with frozen(model):
        assert not any(part.training for part in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
        x = torch.rand(2, 3, 4, 4)
        assert torch.equal(model(x), model(x)), "dropout is off"
        assert not model(x).requires_grad


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_context_restores_every_mode_and_flag(error: type[BaseException] | None) -> None:
    model, other = unusual(), unusual().eval()
    before = str(state(model)), str(state(other))

    def run() -> None:
        with frozen(model, other):
            model(torch.rand(2, 3, 4, 4))
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert (str(state(model)), str(state(other))) == before


def test_contexts_nest_and_modules_may_be_named_twice() -> None:
    model = unusual()
    before = str(state(model))
    with frozen(model, model[0], model):
        with frozen(model):
            pass
        assert not any(weight.requires_grad for weight in model.parameters())
    assert str(state(model)) == before


def test_running_statistics_do_not_change() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=0.5)).train()
    with frozen(model):
        model(torch.rand(4, 3, 8, 8) + 5)
    assert torch.equal(model[0].running_mean, torch.zeros(3))
    assert int(model[0].num_batches_tracked) == 0
    model(torch.rand(4, 3, 8, 8) + 5)
    assert int(model[0].num_batches_tracked) == 1, "outside it trains as before"


def test_the_gradient_reaches_only_the_input_also_after_the_context() -> None:
    model = unusual().double()
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    with frozen(model):
        loss = model(x).square().sum()
    loss.backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.parameters())
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with frozen(model), torch.no_grad():
        step = 1e-6 * direction
        difference = (model(x + step).square().sum() - model(x - step).square().sum()) / 2e-6
    assert torch.isclose((x.grad * direction).sum(), difference, rtol=1e-6)


def test_a_context_without_modules_changes_nothing() -> None:
    with frozen():
        pass


def test_contexts_of_several_threads_may_overlap() -> None:
    model = unusual()
    before = str(state(model))
    one, two = frozen(model), frozen(model)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert not any(weight.requires_grad for weight in model.parameters()), "the other one is still open"
    assert not any(part.training for part in model.modules())
    two.__exit__(None, None, None)
    assert str(state(model)) == before


def test_a_context_of_another_thread_does_not_hide_the_trained_weights() -> None:
    model = nn.Linear(2, 2).train()
    every = [model.weight, model.bias]
    with ThreadPoolExecutor(1) as other:
        context = frozen(model)
        other.submit(context.__enter__).result()
        assert not model.training and list(map(id, trainable(model))) == list(map(id, every))
        with frozen(model):
            assert trainable(model) == []
        assert len(trainable(model)) == 2
        other.submit(context.__exit__, None, None, None).result()
    assert model.training and all(weight.requires_grad for weight in every)


@pytest.mark.parametrize("asked", [False, True])
def test_tensors_in_place_of_weights_choose_no_parameter(asked: bool) -> None:
    """Of a model as loaded, in which nobody has chosen the weights that stay."""
    model = nn.Linear(2, 2).eval()
    bias = torch.zeros(2, requires_grad=asked)
    found: list[int] = []

    def run() -> Tensor:
        found.extend(map(id, trainable(model)))
        return bias

    torch.func.functional_call(Running(model, run), {"part.bias": bias}, ())
    assert found == [id(bias)] * asked and trainable(model) == []


def test_a_copy_of_a_module_that_holds_computed_tensors() -> None:
    """A pruned weight is computed in every run, and a hook may store what has a graph; torch copies neither."""
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    l1_unstructured(model[0], "weight", 1)
    x = torch.ones(1, 2)
    model[1].register_forward_hook(lambda part, given, output: setattr(part, "seen", {"maps": [[output]] * 2}))
    wanted = model(x)
    twin = copied(model)
    (first,), (second,) = twin[1].seen["maps"]
    assert first is second and torch.equal(first, wanted) and not first.requires_grad
    first.zero_()
    assert torch.equal(twin(x), wanted) and model[1].seen["maps"][0][0].requires_grad and wanted.any()
    with torch.no_grad():
        twin[0].weight_orig.zero_()
    assert torch.equal(model(x), wanted) and not torch.equal(twin(x), wanted)
    assert copied(model, [model[1]])[1] is None and model[1] is not None


def test_weights_that_are_computed_meanwhile_are_not_cached() -> None:
    model = parametrizations.weight_norm(nn.Linear(2, 2))
    x = torch.ones(1, 2)
    with parametrize.cached():
        with frozen(model), frozen(model):
            assert not model(x).requires_grad
        kept = model.weight
        assert kept.requires_grad
        with frozen(model):
            assert not model(x).requires_grad
        assert model.weight is kept
    assert model.weight is not kept


class Running(nn.Module):
    """A module that runs a function, so that ``functional_call`` may change its part meanwhile."""

    def __init__(self, part: nn.Module, run: Callable[[], Tensor]) -> None:
        super().__init__()
        self.part, self.run = part, run

    def forward(self) -> Tensor:
        return self.run()


def refusing(value: bool) -> None:
    raise RuntimeError("this flag stays")


def test_a_module_that_cannot_be_frozen_leaves_the_others_unchanged() -> None:
    model = unusual()
    before = str(state(model))
    derived = nn.Linear(2, 2)
    derived.weight.requires_grad_ = refusing
    with pytest.raises(RuntimeError, match="stays"), frozen(model, derived):
        pass
    assert str(state(model)) == before
    assert derived.training


def test_an_interrupt_while_flags_are_written_leaves_no_weight_frozen() -> None:
    model = unusual()
    last = [*model.parameters()][-1].requires_grad_(True)

    def interrupted(value: bool) -> None:
        Tensor.requires_grad_(last, value)
        if not value:
            raise KeyboardInterrupt

    before, last.requires_grad_ = str(state(model)), interrupted
    with pytest.raises(KeyboardInterrupt), frozen(model):
        pass
    assert str(state(model)) == before


def test_weights_whose_flag_cannot_be_changed_stay_as_they_are() -> None:
    with torch.inference_mode():
        loaded = nn.Linear(2, 2)
    computed = nn.Linear(2, 2)
    other = {"weight": computed.weight * 2, "bias": computed.bias}

    def run() -> Tensor:
        with frozen(computed, loaded):
            assert not computed.bias.requires_grad
            return computed(torch.ones(1, 2))

    wrapper = Running(computed, run)
    result = torch.func.functional_call(wrapper, {f"part.{name}": value for name, value in other.items()}, ())
    assert loaded.weight.requires_grad and computed.bias.requires_grad
    torch.testing.assert_close(torch.autograd.grad(result.sum(), computed.weight)[0], torch.full((2, 2), 2.0))


def test_a_compiled_module_comes_back_in_its_mode() -> None:
    """Its mode is a property of the module inside: what is read of both in turn is written back in reverse."""
    compiled = torch.compile(unusual(), backend="eager")
    before = str(state(compiled))
    with frozen(compiled):
        assert not any(part.training for part in compiled.modules())
    assert compiled.training and str(state(compiled)) == before
