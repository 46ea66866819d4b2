"""What a step keeps, moved to host memory; on the CPU copies stand for the moves. Exactness is in ``test_exact.py``."""

import gc

import pytest
import torch

from diffexplain_fast.engine.graphs.policy import Graphs
from diffexplain_fast.engine.memory.costs import Request, count_levels, least_limit, make_plan
from diffexplain_fast.engine.memory.host import Offloaded, flop_per_byte, storage_key
from diffexplain_fast.engine.memory.resident import held_tensors
from tests.engine.fast.cases import Case, inputs_of, levels, results, sampler_for
from tests.engine.graphs.test_recording import Rerun

BIG = (64, 512)  # 128 KiB of float32


def cube(x):
    return (x**3).sum()


def test_offloading_keeps_the_gradient_and_leaves_nothing_behind():
    x = torch.randn(BIG, requires_grad=True)
    stored = Offloaded(())
    with stored.hooks:
        y = (x * 2).sigmoid() * x.sin()
        out = cube(y)
    stored.fetch()
    (got,) = torch.autograd.grad(out, x)
    stored.free()
    (wanted,) = torch.autograd.grad(cube((x * 2).sigmoid() * x.sin()), x)
    assert torch.equal(got, wanted) and not stored._host and not stored._back


def test_a_storage_is_moved_once_however_many_views_are_kept():
    x = torch.randn(BIG, requires_grad=True)
    stored = Offloaded(())
    with stored.hooks:
        whole = x * 1.5
        left, right = whole[:, :256], whole[:, 256:].t()
        out = (left @ right).sigmoid().mean() + left.square().mean()
    assert [host.numel() for host in stored._host.values()] == [whole.nbytes]
    stored.fetch()
    (got,) = torch.autograd.grad(out, x)
    left, right = 1.5 * x[:, :256], 1.5 * x[:, 256:].t()
    (wanted,) = torch.autograd.grad((left @ right).sigmoid().mean() + left.square().mean(), x)
    assert (got - wanted).norm() <= 1e-6 * wanted.norm()


def test_held_and_small_tensors_are_not_moved():
    weight, x = torch.randn(512, 512), torch.randn(BIG, requires_grad=True)
    stored = Offloaded({storage_key(weight), storage_key(x)})
    with stored.hooks:
        (x @ weight[:, :100]).exp()[:2].sum().square()
    assert stored.nbytes == 0
    with stored.hooks:
        (x @ weight).exp()
    assert stored.nbytes == x.nbytes


@pytest.mark.slow
def test_a_new_storage_at_the_address_of_one_that_is_gone_is_another():
    stored, x = Offloaded(()), torch.ones(BIG, requires_grad=True)
    kept, addresses = [], set()
    with stored.hooks:
        for number in range(20):
            made = torch.full(BIG, float(number))
            addresses.add(made.untyped_storage()._cdata)
            kept.append((x * made).sum())
            del made
            gc.collect()
    assert len(addresses) < 20  # else this tests nothing
    stored.fetch()
    assert [torch.autograd.grad(out, x)[0][0, 0].item() for out in kept] == list(range(20))


@torch.no_grad()
def request(sampler, rate, steps=4):
    denoiser = sampler._engine.denoiser
    given = inputs_of("tinyworld")
    text = denoiser.project(torch.cat([given["negative_prompt_embeds"], given["prompt_embeds"]]))
    shifts = denoiser.shifts(torch.tensor([500]), None)[0]
    return Request(given["latents"], text, shifts, steps, 0, False, False, rate)


def test_lean_models_are_counted_without_fake_tensors(monkeypatch):
    """They take ten times as long: a first result within seconds needs meta tensors."""
    sampler = sampler_for(Case("tinyworld"), "fast")
    monkeypatch.setattr("diffexplain_fast.engine.memory.counting.FakeTensorMode", None)
    engine = sampler._engine
    held = held_tensors([engine.denoiser])
    counted = count_levels(engine.denoiser, engine.decoder, (sampler.unet, sampler.vae), request(sampler, None))
    assert counted.steps[0]["lean"].kept > 0
    assert all(now is before for now, before in zip(held_tensors([engine.denoiser]), held, strict=True))


def test_the_planner_moves_steps_where_that_is_faster_and_fits():
    sampler = sampler_for(Case("tinyworld"), "fast")
    engine = sampler._engine
    models = engine.denoiser, engine.decoder, (sampler.unet, sampler.vae)
    slow, fast, none = (count_levels(*models, request(sampler, rate)) for rate in (1e9, 1e-3, None))
    size = fast.steps[0]["host"].host
    assert size == fast.steps[0]["lean"].kept - fast.steps[0]["host"].kept and "host" not in none.steps[0]
    tight = least_limit(fast)
    assert tight == least_limit(none)
    assert make_plan(slow, tight, 100 * size).levels.count("host") == 0
    for room in range(5):
        plan = make_plan(fast, tight, room * size + 1)
        assert plan.levels.count("host") == room and plan.peak <= tight
        assert plan.parts.get("in host memory, not on the device", 0) == room * size
    assert "in host memory" in str(plan)


def test_the_moved_bytes_are_those_that_were_counted(monkeypatch):
    """At the lean level of the tiny world, where the smallest tensors move as well."""
    monkeypatch.setattr("diffexplain_fast.engine.memory.host._SMALL", 0)
    made, init = [], Offloaded.__init__
    monkeypatch.setattr(Offloaded, "__init__", lambda self, held: (init(self, held), made.append(self))[0])
    case = Case("tinyworld", guidance=1.0)
    sampler = sampler_for(case, "fast")
    engine = sampler._engine
    models = engine.denoiser, engine.decoder, (sampler.unet, sampler.vae)
    with levels("host"):
        results(sampler, inputs_of("tinyworld"), ("prompt_embeds",))
    alone = request(sampler, 1.0, steps=1)
    alone = alone._replace(text=[part[1:] for part in alone.text])
    wanted = count_levels(*models, alone).steps[0]["host"].host
    first, second = (stored.nbytes for stored in made)
    # The first step's latents have no gradient; beside the denoiser, a step keeps its row of coefficients.
    assert 0.8 * wanted <= first < second and abs(second - wanted) <= 1024


def test_held_tensors_are_the_weights_and_their_layouts():
    sampler = sampler_for(Case(), "fast")
    engine = sampler._engine
    held = {storage_key(part) for part in held_tensors((engine.denoiser, engine.decoder, sampler.unet, sampler.vae))}
    assert {storage_key(weight) for weight in sampler.unet.parameters()} <= held


def test_the_engine_asks_for_the_rate_only_with_host_memory(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "diffexplain_fast.engine.memory.planner.flop_per_byte", lambda *about: (asked.append(about), 1e-3)[1]
    )
    results(sampler_for(Case(), "fast", memory="1GiB"), inputs_of("sd15"), ("prompt_embeds",))
    assert not asked
    least = sampler_for(Case(), "fast", memory="1GiB")
    results(least, inputs_of("sd15"), ("prompt_embeds",))
    least._engine._planning._quick_plan = lambda key: None
    least._engine._planning.forget_plans()
    limit = least_limit(next(iter(counted(least).values())))
    sampler = sampler_for(Case(), "fast", memory=limit, host_memory="1GiB")
    results(sampler, inputs_of("sd15"), ("prompt_embeds",))
    assert len(asked) == 1 and "host" in sampler.plan.levels


def counted(sampler):
    """What the planner counted, all levels of it."""
    assert sampler.plan is not None
    return sampler._engine._planning._counted


def test_no_step_is_moved_to_host_memory_on_the_cpu():
    assert flop_per_byte(torch.device("cpu"), torch.float32) is None
    sampler = sampler_for(Case(), "fast", memory="1GiB", host_memory="1GiB")
    results(sampler, inputs_of("sd15"), ("prompt_embeds",))
    assert "host" not in sampler.plan.levels


def test_calls_that_keep_steps_in_host_memory_are_not_recorded():
    sampler = sampler_for(Case(), "fast")
    sampler._engine._graphs = Graphs("auto", Rerun)
    with levels("host"):
        for _ in range(2):
            results(sampler, inputs_of("sd15"), ("prompt_embeds",))
    assert sampler.record()["cuda_graphs"] == "eager: steps are kept in host memory"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"host_memory": 1.5}, TypeError, "host_memory: wanted .* got float"),
        ({"host_memory": "much"}, ValueError, "host_memory: wanted .* got 'much'"),
        ({"host_memory": "auto"}, ValueError, "host_memory: wanted None, a number of bytes, or text such as '16GiB'"),
        ({"host_memory": 1, "backend": "reference"}, ValueError, "host_memory: wanted None with backend='reference'"),
    ],
)
def test_host_memory_that_is_not_bytes_or_is_for_the_reference_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        sampler_for(Case(), options.pop("backend", "fast"), **options)
