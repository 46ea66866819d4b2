"""What is computed once: each saving is taken where it holds, not taken where it does not, and changes no gradient."""

import contextlib

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffexplain_fast.engine.lean.resnet import Resnet
from diffexplain_fast.engine.lean.savings import SAVINGS
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.counting import live_bytes
from tests.engine.fast.cases import Case, arguments_of, assert_close, inputs_of, levels, results, sampler_for, truth

PROMPT = ("prompt_embeds",)


@pytest.fixture
def calls(monkeypatch):
    """Rows of the sample and of the text at every call of a lean denoiser."""
    seen = []
    run = LeanUNet.__call__

    def counted(self, sample, text, shifts, level):
        seen.append((len(sample), len(text[0])))
        return run(self, sample, text, shifts, level)

    monkeypatch.setattr(LeanUNet, "__call__", counted)
    return seen


@pytest.fixture(autouse=True)
def kept():
    with levels("keep"):
        yield


@pytest.mark.parametrize("batch", [1, 3])
def test_without_guidance_no_unconditional_row_runs(calls, batch):
    case = Case(guidance=1.0, batch=batch)
    results(sampler_for(case, "fast"), inputs_of("sd15", batch), arguments_of(case))
    assert calls == [(batch, batch)] * 2


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_of_guidance_are_one_until_they_meet_the_text(calls, batch, monkeypatch):
    case, rows = Case(batch=batch), []
    run = Resnet.__call__
    monkeypatch.setattr(Resnet, "__call__", lambda self, x, *rest: (rows.append(len(x)), run(self, x, *rest))[1])
    got = results(sampler_for(case, "fast"), inputs_of("sd15", batch), arguments_of(case))
    assert calls == [(batch, 2 * batch)] * 2
    assert rows[0] == batch and rows[1] == 2 * batch
    assert_close(got, truth(case))


def test_text_is_projected_and_time_embedded_once_for_all_steps_and_calls(monkeypatch):
    counts = {"project": 0, "shifts": 0}
    for name in counts:
        run = getattr(LeanUNet, name)

        def counted(self, *arguments, name=name, run=run):
            counts[name] += 1
            return run(self, *arguments)

        monkeypatch.setattr(LeanUNet, name, counted)
    case = Case(steps=4)
    sampler = sampler_for(case, "fast")
    for number in (1, 2):
        assert_close(results(sampler, inputs_of("sd15"), arguments_of(case)), truth(case))
        assert counts == {"project": number, "shifts": 1}


class TestFirstUnconditionalPrediction:
    """The first step's unconditional rows depend on start noise and negative prompt alone, which loops keep fixed."""

    case = Case("sdxl", "euler")
    whole, half, known = (1, 2), (1, 1), [(1, 1), (1, 2)]

    @pytest.fixture
    def sampler(self):
        return sampler_for(self.case, "fast")

    def run(self, sampler, wanted=PROMPT, **changed):
        given = inputs_of("sdxl") | changed
        reference = results(sampler_for(self.case, "reference"), given, wanted)
        assert_close(results(sampler, given, wanted), reference)

    def test_it_runs_once_while_noise_and_negative_prompt_stay(self, sampler, calls):
        self.run(sampler)
        assert calls == [self.half, self.half, self.whole]
        for seed in range(2):
            calls.clear()
            other = inputs_of("sdxl", seed=seed)
            self.run(sampler, prompt_embeds=other["prompt_embeds"])
            assert calls == self.known

    def test_it_serves_calls_without_a_graph(self, sampler, calls):
        self.run(sampler)
        calls.clear()
        self.run(sampler, ())
        assert calls == self.known

    @pytest.mark.parametrize("name", ["negative_prompt_embeds", "latents", "negative_pooled_prompt_embeds", "time_ids"])
    def test_it_runs_again_when_an_argument_changes(self, sampler, calls, name):
        self.run(sampler)
        calls.clear()
        value = torch.tensor([[16.0, 24, 2, 0, 8, 16]]) if name == "time_ids" else inputs_of("sdxl", seed=3)[name]
        self.run(sampler, **{name: value.double()})
        assert calls == [self.half, self.half, self.whole]

    @pytest.mark.parametrize("name", ["negative_prompt_embeds", "latents"])
    def test_it_runs_again_when_an_argument_changes_in_place(self, sampler, name):
        given = inputs_of("sdxl")
        self.run(sampler, **given)
        given[name] += 0.5
        self.run(sampler, **given)

    @pytest.mark.parametrize("name", ["negative_prompt_embeds", "latents", "negative_pooled_prompt_embeds"])
    def test_it_is_not_used_where_a_gradient_goes_there(self, sampler, calls, name):
        self.run(sampler)
        calls.clear()
        self.run(sampler, (*PROMPT, name))
        assert calls == [self.whole] * 2

    def test_it_is_forgotten_when_a_weight_changes(self, sampler):
        self.run(sampler)
        weight = sampler.unet.time_embedding.linear_1.bias
        with torch.no_grad(), contextlib.ExitStack() as undo:
            undo.callback(weight.copy_, weight.clone())
            weight += 0.5
            with torch.enable_grad():
                self.run(sampler)
        self.run(sampler)

    def test_it_is_that_of_the_first_step_even_if_only_later_ones_are_recorded(self, calls):
        case = self.case._replace(gradient="last:1")
        sampler = sampler_for(case, "fast")
        for _ in range(2):
            assert_close(results(sampler, inputs_of("sdxl"), PROMPT), truth(case))


def work(sampler, case):
    """Results of a second call, its FLOP, the most bytes alive, and how often a time embedding was computed."""
    embedded, inputs = [], inputs_of(case.model, case.batch)
    results(sampler, inputs, PROMPT)
    run = LeanUNet.shifts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeanUNet, "shifts", lambda *given: (embedded.append(1), run(*given))[1])
        with FlopCounterMode(display=False) as flops, live_bytes() as live:
            found = results(sampler, inputs, PROMPT)
    return found, flops.get_total_flops(), live.peak, len(embedded)


@pytest.mark.parametrize("saving", SAVINGS)
def test_each_can_be_switched_off_and_the_gradient_stays(saving):
    """And something shows that it is off: more multiplications, more bytes, or one more embedding."""
    case = Case(steps=3)
    all_on, flops, most, embedded = work(sampler_for(case, "fast"), case)
    without = set(SAVINGS) - {saving}
    one_off, more_flops, more, again = work(sampler_for(case, "fast", savings=without), case)
    assert_close(one_off, all_on)
    shown = {"time": again > embedded, "skips": more > most}
    assert shown.get(saving, more_flops > flops)


def test_all_off_at_once():
    case = Case("sdxl", steps=3, batch=2)
    assert_close(results(sampler_for(case, "fast", savings=()), inputs_of("sdxl", 2), arguments_of(case)), truth(case))


@pytest.mark.parametrize(
    ("savings", "error", "message"),
    [
        ("some", TypeError, "savings: wanted 'all' or a collection of names, got str"),
        (3, TypeError, "savings: wanted 'all' or a collection of names, got int"),
        (["rows", "lines"], ValueError, "savings: wanted one of 6 known names"),
    ],
)
def test_bad_savings_are_named(savings, error, message):
    with pytest.raises(error, match=message):
        sampler_for(Case(), "fast", savings=savings)
