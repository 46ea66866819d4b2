"""Room for text encoder and classifier in a sampler's plan."""

from dataclasses import asdict

import pytest
import torch

from diffexplain_fast.engine.memory.counting import live_bytes
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.reserve import reserved_bytes
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.targets import as_target
from tests.explaining import QUICK, quick_explainer

CUTOUTS = {"images_per_step": 3, "cutouts": 2}


@pytest.fixture
def explainer():
    with quick_explainer() as made:
        modules = made.pipeline.unet, made.pipeline.vae, *made.pipeline.text_encoders, made.classifier.model
        with frozen(*modules):
            yield made


def weights_of(*modules):
    return sum(weight.nbytes for module in modules for weight in (*module.parameters(), *module.buffers()))


def reserved(explainer, weights=False, **options):
    target = as_target("boat").bind(explainer.classifier)
    return reserved_bytes(explainer.pipeline, explainer.classifier, target, Options(**options), weights)


def test_it_grows_with_images_and_cutouts_and_with_weights(explainer):
    sizes = [
        reserved(explainer, start="boat", images_per_step=1),
        reserved(explainer, start="boat", images_per_step=2),
        reserved(explainer, start="boat", **CUTOUTS),
        reserved(explainer, start="gradient", search_batch=16),  # a search draws more at once than a step does
    ]
    assert sizes == sorted(set(sizes))
    modules = (*explainer.pipeline.text_encoders, explainer.classifier.model)
    assert reserved(explainer, weights=True) - reserved(explainer) == weights_of(*modules)


def measured(explainer, sampler, options):
    """Most bytes alive in a training step, all weights included."""
    target = as_target("boat").bind(explainer.classifier)
    problem = Problem(explainer.pipeline, sampler, explainer.classifier, target, options.prefix, 0)
    soft = explainer.pipeline.word_table()[: options.n_tokens].detach().clone().requires_grad_()

    def step():
        pixels = problem.images(problem.encode_soft(soft), "train", range(options.images_per_step))
        torch.autograd.grad(-problem.scores(pixels).score.mean(), soft)

    step()
    with live_bytes() as live:
        step()
    pipeline = explainer.pipeline
    return live.peak + weights_of(pipeline.unet, pipeline.vae, *pipeline.text_encoders, explainer.classifier.model)


@pytest.mark.parametrize("share", [0.0, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.5, 1.0))])
def test_a_whole_step_stays_within_the_budget(explainer, share):
    options = Options(images_per_step=4, n_tokens=2)
    reserve = reserved(explainer, weights=True, **asdict(options))

    def sampler(memory):
        made = {"num_inference_steps": 3, "guidance_scale": 3.0, "backend": "fast", "memory": memory}
        return DifferentiableSampler.from_pipe(explainer.pipeline, **made, reserve=reserve)

    with pytest.raises(ValueError, match=r"memory: wanted at least [0-9]+ bytes") as refused:
        measured(explainer, sampler(1), options)
    least = int(str(refused.value).split("at least ")[1].split()[0])
    free = sampler(2**40)
    measured(explainer, free, options)
    limit = least + int(share * (free.plan.peak - least))
    given = sampler(limit)
    assert measured(explainer, given, options) <= limit
    assert given.plan.parts["reserve"] == reserve and given.plan.peak <= limit


def test_a_reserve_is_as_if_the_limit_were_less(explainer):
    def levels(memory, reserve):
        made = {"num_inference_steps": 3, "backend": "fast", "memory": memory, "reserve": reserve}
        sampler = DifferentiableSampler.from_pipe(explainer.pipeline, **made)
        measured(explainer, sampler, Options(n_tokens=2, images_per_step=1))
        return sampler.plan.levels

    ample = 2**40
    assert levels(ample, None) == levels(ample, "1MiB") == levels(ample, ample // 2)
    with pytest.raises(ValueError, match="memory: wanted at least"):
        levels(ample, ample - 1)


@pytest.mark.parametrize("memory", ["64MiB", None, "auto"])
def test_an_explanation_reserves_only_under_a_limit(memory, monkeypatch):
    asked, real = [], DifferentiableSampler.reserve

    def reserve(self, given):
        asked.append(given)
        real(self, given)

    monkeypatch.setattr(DifferentiableSampler, "reserve", reserve)
    with quick_explainer(memory=memory) as explainer:
        explainer.explain("boat", **QUICK)
    assert (asked[-1] is not None and asked[-1] > 0) == (memory == "64MiB")
