"""Pictures of a step where the memory decides: what the limit gives, kept by a run that resumes."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from diffexplain_fast.engine.memory import planner
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.explanation import Explanation
from tests.explaining import QUICK, FailingClassifier, assert_same_result, quick_explainer
from tests.tiny import tiny_sd, tiny_sdxl

MIB = 2**20
SHORT: dict[str, Any] = {**QUICK, "iterations": 2}
AUTO: dict[str, Any] = {**SHORT, "images_per_step": "auto"}
ROOMY, TIGHT = "64MiB", 9 * MIB // 2


def explained(memory: int | str | None, **options: Any) -> Explanation:
    with quick_explainer(memory=memory, backend="fast") as explainer:
        found = explainer.explain("boat", **{**AUTO, **options})
        plan = explainer._current[1].plan  # type: ignore[index]
        assert plan is not None and (plan.limit is None) == (memory is None)
        assert plan.limit is None or plan.peak <= plan.limit
    return found


def number(found: Explanation) -> int:
    given = found.settings["options"]["images_per_step"]
    assert type(given) is int and json.loads(json.dumps(found.settings))["options"]["images_per_step"] == given
    return given


def test_the_number_grows_with_the_limit_and_fits() -> None:
    found = [explained(limit) for limit in (TIGHT, 6 * MIB, 9 * MIB, ROOMY)]
    assert [number(one) for one in found] == [1, 2, 4, 8]
    assert all(one.settings["asked"] == {"images_per_step": "auto"} for one in found)


def test_nearly_the_same_time_for_a_picture_takes_the_larger_number() -> None:
    """Under this limit, four pictures compute 5 % of a forward again, two compute nothing again."""
    assert number(explained(int(7.5 * MIB))) == 4


def test_no_limit_leaves_the_default() -> None:
    found = explained(None)
    assert number(found) == 2 and found.settings["asked"] == {"images_per_step": "auto"}
    with quick_explainer(backend="reference") as explainer:
        assert number(explainer.explain("boat", **AUTO)) == 2


def test_nothing_fits_as_with_any_number() -> None:
    with quick_explainer(memory=MIB, backend="fast") as explainer:
        with pytest.raises(ValueError, match=r"^memory: wanted at least \d+ bytes") as refused:
            explainer.explain("boat", **AUTO)
        with pytest.raises(ValueError, match=r"^memory: wanted") as usual:
            explainer.explain("boat", **(SHORT | {"images_per_step": 1}))
    assert str(refused.value) == str(usual.value)


def refused(memory: int, **options: Any) -> int:
    """Return the least limit that a refusal names, which comes before anything is drawn or reported."""
    drawn: list[object] = []
    with pytest.MonkeyPatch.context() as patch, quick_explainer(memory=memory, backend="fast") as explainer:
        patch.setattr(Problem, "images", lambda *given: drawn.append(given))
        with pytest.raises(ValueError, match=rf"^memory: wanted at least \d+ bytes .* got {memory} ") as found:
            explainer.explain("boat", callback=drawn.append, **(SHORT | options))
    assert not drawn
    return int(str(found.value).split("at least ")[1].split()[0])


@pytest.mark.slow
def test_a_limit_without_room_for_a_gradient_is_refused_before_the_first_picture(tmp_path: Path) -> None:
    words = {"start": "screen", "candidates": ["red", "fish"]}
    assert refused(MIB, **words) == refused(MIB, start="boat", budget=1, checkpoint=tmp_path / "run", modes=2)
    search = refused(MIB, start="gradient", images_per_step=1)
    assert search > refused(MIB, **words, images_per_step=1), "the search draws more pictures than a step"
    with quick_explainer(memory=search, backend="fast") as explainer:  # the number that is named suffices
        explainer.explain("boat", **(SHORT | {"start": "gradient", "images_per_step": 1}))
    assert refused(MIB, start="gradient", images_per_step=8) >= search
    assert refused(MIB, start="gradient", images_per_step="auto") == search


def test_a_finished_run_is_read_again_under_any_limit(tmp_path: Path) -> None:
    found = []
    for memory in (ROOMY, MIB):
        with quick_explainer(memory=memory, backend="fast") as explainer:
            found.append(explainer.explain("boat", checkpoint=tmp_path, **SHORT))
    assert_same_result(*found)


@pytest.mark.parametrize("memory", [ROOMY, TIGHT])
def test_what_a_refusal_needs_to_know_is_not_counted_again(memory: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, real = [], planner.count_levels

    def count(*given: Any) -> Any:
        request, fastest = given[3:]
        counted.append((len(request.sample), request.steps, fastest))
        return real(*given)

    monkeypatch.setattr(planner, "count_levels", count)
    search = {"start": "gradient", "num_inference_steps": 6} if memory == ROOMY else {"images_per_step": 1}
    with quick_explainer(memory=memory, backend="fast") as explainer:
        explainer.explain("boat", **(SHORT | search))
    assert len(counted) == len(set(counted))
    assert {(pictures, steps) for pictures, steps, _ in counted} == (
        {(2, 6), (8, 4), (4, 4)} if memory == ROOMY else {(1, 2)}
    )


@pytest.mark.parametrize("given", ["many", "", "AUTO", "4"])
def test_other_text_is_refused_before_anything_runs(given: str) -> None:
    wanted = f"^images_per_step: wanted a whole number of at least 1, or \"auto\", got '{given}'$"
    with quick_explainer() as explainer, pytest.raises(ValueError, match=wanted):
        explainer.explain("boat", **(SHORT | {"images_per_step": given}))


def test_the_result_is_that_of_the_number_and_the_models_are_as_they_were() -> None:
    pipe = tiny_sd()
    before = {name: (each.requires_grad, each.clone()) for name, each in pipe.unet.named_parameters()}
    with quick_explainer(pipe=pipe, memory=9 * MIB, backend="fast") as explainer:
        chosen = explainer.explain("boat", **AUTO)
        given = explainer.explain("boat", **(SHORT | {"images_per_step": 4}))
    assert_same_result(chosen, given)
    assert "asked" not in given.settings
    after = dict(pipe.unet.named_parameters())
    assert all(after[name].requires_grad is flag and after[name].equal(old) for name, (flag, old) in before.items())


class _Stop(Exception):
    """Interrupts a run."""


def _interrupt(logits: torch.Tensor) -> torch.Tensor:
    raise _Stop


def test_a_resumed_run_keeps_its_number_whatever_the_limit_is_then(tmp_path: Path) -> None:
    whole = explained(9 * MIB, iterations=4)
    calls = 6  # the room for 1, 2, 4 and 8 pictures and for the chosen number, then a step
    failing = quick_explainer(FailingClassifier(calls, _interrupt), memory=9 * MIB, backend="fast")
    with failing as explainer, pytest.raises(_Stop):
        explainer.explain("boat", checkpoint=tmp_path / "run", **(AUTO | {"iterations": 4}))
    latest = json.loads((tmp_path / "run" / "LATEST.json").read_text())
    assert latest["config"]["images_per_step"] == 4 and latest["asked"] == {"images_per_step": "auto"}
    modules = [FailingClassifier(99, _interrupt) for _ in range(2)]
    for memory, module in zip((ROOMY, None), modules, strict=True):
        with quick_explainer(module, memory=memory, backend="fast") as explainer:
            found = explainer.explain("boat", checkpoint=tmp_path / "run", **(AUTO | {"iterations": 4}))
        assert number(found) == 4 and found.settings["asked"] == {"images_per_step": "auto"}
        assert torch.equal(found.prompt_embeds, whole.prompt_embeds)


def _without_state(run: Path, begun: Path) -> None:
    """Write the folder of a run that has scored nothing yet."""
    begun.mkdir()
    latest = json.loads((run / "LATEST.json").read_text())
    scores = {"scores": {}, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (begun / "screening.json").write_text(json.dumps({key: latest[key] for key in ("config", "answers")} | scores))


def test_a_checkpoint_of_another_number_is_refused_and_one_without_a_state_is_kept(tmp_path: Path) -> None:
    with quick_explainer(memory=9 * MIB, backend="fast") as explainer:
        first = explainer.explain("boat", checkpoint=tmp_path / "run", **AUTO)
        for other in (2, 8):
            with pytest.raises(ValueError, match=f"checkpoint: wanted .*images_per_step: 4, not {other}"):
                explainer.explain("boat", checkpoint=tmp_path / "run", **(SHORT | {"images_per_step": other}))
        same = explainer.explain("boat", checkpoint=tmp_path / "run", **(SHORT | {"images_per_step": 4}))
        assert_same_result(first, same)
        with pytest.raises(ValueError, match=r"checkpoint: wanted .*target"):
            explainer.explain("fish", checkpoint=tmp_path / "run", **AUTO)
    _without_state(tmp_path / "run", tmp_path / "begun")
    with quick_explainer(memory=ROOMY, backend="fast") as explainer:
        assert number(explainer.explain("boat", checkpoint=tmp_path / "begun", **AUTO)) == 4


def test_modes_have_the_same_number(tmp_path: Path) -> None:
    with quick_explainer(memory=9 * MIB, backend="fast") as explainer:
        found = explainer.explain("boat", modes=2, checkpoint=tmp_path, **AUTO)
    assert [number(one) for one in (found, *found.others)] == [4, 4]
    assert [one.settings["asked"] for one in found.others] == [{"images_per_step": "auto"}]


def _call(pipeline: Any, batch: int) -> tuple[Sequence[torch.Tensor], dict[str, torch.Tensor]]:
    with torch.no_grad():
        text, none = pipeline.encode_text(["boat"] * batch), pipeline.unconditional()
    pooled = {} if text.pooled is None else {"pooled_prompt_embeds": text.pooled}
    pooled |= {} if none.pooled is None else {"negative_pooled_prompt_embeds": none.pooled}
    return (text.prompt_embeds, none.prompt_embeds), {**pooled, **pipeline.extras(text, batch)}


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
@pytest.mark.parametrize(("share", "gradient"), [(2.0, "full"), (0.75, "full"), (0.75, "checkpointed")])
def test_a_plan_for_a_call_is_the_plan_of_the_call(make: Callable[[], Any], share: float, gradient: str) -> None:
    pipeline = load_pipeline(make())
    prompts, more = _call(pipeline, 2)
    for module in (pipeline.unet, pipeline.vae):
        module.requires_grad_(False)

    def sampler(memory: int | None) -> DifferentiableSampler:
        made: Any = {"num_inference_steps": 3, "guidance_scale": 3.0, "backend": "fast", "gradient": gradient}
        return DifferentiableSampler.from_pipe(pipeline, memory=memory, **made)

    whole = sampler(None).plan_for(*prompts, **more)
    assert whole is not None
    limit = int(share * whole.peak) if gradient == "full" else 2 * whole.peak
    one = sampler(limit)
    told = one.plan_for(*prompts, **more)
    assert one.plan is None
    embeds = prompts[0].requires_grad_()
    one(embeds, prompts[1], generator=torch.Generator().manual_seed(0), **more).sum().backward()
    assert told == one.plan and told is not None and told.time >= whole.time > 0
    assert (told.time > whole.time) == (share < 1 and gradient == "full")
    assert sampler(limit).plan_for(*_call(pipeline, 1)[0], **_call(pipeline, 1)[1]).time * 2 <= told.time  # type: ignore[union-attr]


def test_the_reference_has_no_plan() -> None:
    pipeline = load_pipeline(tiny_sd())
    prompts, more = _call(pipeline, 1)
    assert DifferentiableSampler.from_pipe(pipeline, backend="reference").plan_for(*prompts, **more) is None
