"""What is computed once: each saving is taken where it holds, not taken where it does not, and changes no gradient."""

import pytest
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
    monkeypatch.setattr(
        Resnet, "__call__", lambda self, x, *rest, **more: (rows.append(len(x)), run(self, x, *rest, **more))[1]
    )
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


class TestSplitGuidance:
    """Nothing flows back through the first step's unconditional rows unless a gradient is wanted there."""

    case = Case("sdxl", "euler")
    whole, half = (1, 2), (1, 1)

    def run(self, sampler, wanted=PROMPT):
        given = inputs_of("sdxl")
        reference = results(sampler_for(self.case, "reference"), given, wanted)
        assert_close(results(sampler, given, wanted), reference)

    def test_the_first_step_runs_its_unconditional_rows_by_themselves(self, calls):
        sampler = sampler_for(self.case, "fast")
        for _ in range(2):
            calls.clear()
            self.run(sampler)
            assert calls == [self.half, self.half, self.whole]

    def test_a_call_without_a_gradient_splits_nothing(self, calls):
        self.run(sampler_for(self.case, "fast"), ())
        assert calls == [self.whole] * 2

    @pytest.mark.parametrize("name", ["negative_prompt_embeds", "latents", "negative_pooled_prompt_embeds"])
    def test_guidance_is_not_split_where_the_unconditional_rows_get_a_gradient(self, calls, name):
        self.run(sampler_for(self.case, "fast"), (*PROMPT, name))
        assert calls == [self.whole] * 2

    def test_the_first_recorded_step_splits_even_if_earlier_ones_are_not_recorded(self, calls):
        case = self.case._replace(gradient="last:1")
        sampler = sampler_for(case, "fast")
        assert_close(results(sampler, inputs_of("sdxl"), PROMPT), truth(case))
        assert calls == [self.whole, self.half, self.half]


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
def test_each_saving_can_be_switched_off_and_the_gradient_stays(saving):
    """And something shows that it is off: more multiplications, more bytes, or one more embedding."""
    case = Case(steps=3)
    all_on, flops, most, embedded = work(sampler_for(case, "fast"), case)
    without = set(SAVINGS) - {saving}
    one_off, more_flops, more, again = work(sampler_for(case, "fast", savings=without), case)
    assert_close(one_off, all_on)
    shown = {"time": again > embedded, "skips": more > most}
    assert shown.get(saving, more_flops > flops)


def test_with_all_savings_off_the_gradient_is_exact():
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
def test_an_unknown_saving_is_refused_by_name(savings, error, message):
    with pytest.raises(error, match=message):
        sampler_for(Case(), "fast", savings=savings)
