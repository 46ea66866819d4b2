"""An iteration of tiny real models under the profiler."""

import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import UnsafeFileError
from diffexplain_fast.measuring.profile.collect import profile_iteration
from diffexplain_fast.measuring.profile.counting import KEPT, OWNERS, TRANSIENT, WEIGHTS, Memory, Timeline
from diffexplain_fast.measuring.profile.events import host_calls
from diffexplain_fast.measuring.profile.iteration import Iteration
from diffexplain_fast.measuring.profile.profile import summarise
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.report.profile_page import profile_text
from tests.tiny import LABELS, tiny_classifier, tiny_sd, tiny_sdxl

PARTS = [
    "text encoder",
    "sampler",
    "step 1",
    "step 2",
    "decoder",
    "classifier",
    "classifier, backward",
    "sampler, backward",
    "decoder, backward",
    "step 2, backward",
    "step 1, backward",
    "text encoder, backward",
]


def made(backend: str = "fast", **options: object) -> Iteration:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    return Iteration(tiny_sd(), classifier, num_inference_steps=2, backend=backend, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_parts_families_and_bytes_add_up_to_the_whole_iteration(backend: str, tmp_path: Path) -> None:
    found = profile_iteration(made(backend), tmp_path)
    assert [part.name for part in found.parts] == [
        name for name in PARTS if name != "sampler, backward" or backend == "fast"
    ]
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.wall, rel=0.02)
    assert sum(share.seconds for share in found.families) == pytest.approx(found.total)
    assert found.total == pytest.approx(found.wall, rel=0.02)
    assert sum(part.launches for part in found.parts) == found.launches > 100
    assert all(sum(part.families.values()) == pytest.approx(part.seconds) for part in found.parts)
    assert found.memory.peak > 0 and found.memory.owners["weights, denoiser"] > 0
    assert (found.memory.predicted is None) == (backend == "reference")
    timeline, weights = found.memory.timeline, sum(s for name, s in found.memory.owners.items() if "weights" in name)
    assert set(timeline.owners) == set(OWNERS) and set(timeline.owners[WEIGHTS]) == {weights}
    assert max(timeline.totals) - weights == found.memory.peak and timeline.moments[-1] <= found.wall
    assert max(timeline.owners[KEPT]) > max(timeline.owners[TRANSIENT]) > 0
    assert timeline.owners[KEPT][-1] < 0.01 * max(timeline.owners[KEPT])  # of the last node, which still runs
    assert found.roofline is not None
    work = {work.name: work for work in found.roofline.families}
    assert {"convolution", "matmul", "attention", "norm", "elementwise"} <= set(work)
    assert all(work[name].flop and work[name].share for name in ("convolution", "matmul", "attention"))
    assert all(one.calls == one.of for one in work.values() if one.name != "elementwise")
    assert work["convolution"].seconds < found.wall and len(found.roofline.operators) == 10
    assert json.loads((tmp_path / "profile.json").read_text()) == json.loads(json.dumps(found.record()))
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace["traceName"] == "trace.json" and len(trace["traceEvents"]) > 100
    allocated = [event["args"]["Total Allocated"] for event in trace["traceEvents"] if event["name"] == "[memory]"]
    assert max(allocated) - allocated[0] == pytest.approx(found.memory.peak, rel=0.1)
    assert max(map(len, profile_text(found).splitlines())) < 120


def test_the_families_are_the_profilers_total_self_time() -> None:
    iteration = made()
    iteration.run()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        iteration.run()
    found = summarise(host_calls(profiler.events()), [], False, Memory(0, "", {}, None, Timeline([], {})), {})
    theirs = 1e-6 * profiler.key_averages().self_cpu_time_total
    assert sum(share.seconds for share in found.families) == pytest.approx(theirs, rel=0.02)
    assert next((share for share in found.families if share.name == "other"), None) is None


def test_tinyworld_marks_every_step(tmp_path: Path) -> None:
    ahead, back = range(1, 9), range(8, 0, -1)
    found = profile_iteration(Iteration(batch=1), tmp_path)
    names = [part.name for part in found.parts if part.name.startswith("step")]
    assert names == [f"step {i}" for i in ahead] + [f"step {i}, backward" for i in back]
    assert min(part.launches for part in found.parts if part.name.startswith("step")) > 50


def test_each_of_two_text_encoders_owns_its_weights(tmp_path: Path) -> None:
    iteration = Iteration(
        tiny_sdxl(), Classifier(tiny_classifier(), labels=LABELS), num_inference_steps=1, guidance_scale=1.0, batch=1
    )
    owners = profile_iteration(iteration, tmp_path).memory.owners
    assert owners["weights, text encoder"] > 0 and owners["weights, text encoder 2"] > 0


def test_models_and_gradient_stay_as_they_are() -> None:
    fast, reference = made(), made("reference")
    gradient = reference.run()
    assert torch.allclose(fast.run(), gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
    pipeline = reference.problem.pipeline
    assert not pipeline.unet._forward_pre_hooks and not pipeline.vae.decoder._forward_pre_hooks
    assert all(weight.requires_grad for weight in pipeline.unet.parameters())


def test_hooks_go_when_the_iteration_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    iteration = made("reference")

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(DifferentiableSampler, "__call__", broken)
    with pytest.raises(RuntimeError, match="broken"):
        iteration.run()
    assert not iteration.problem.pipeline.unet._forward_pre_hooks


def test_the_plan_and_the_curve_agree_on_what_is_kept(tmp_path: Path) -> None:
    everything = profile_iteration(made(), tmp_path).memory
    planned = sum(size for name, size in everything.owners.items() if name.endswith(", keep"))
    assert max(everything.timeline.owners[KEPT]) == pytest.approx(planned, rel=0.1)
    assert everything.predicted is not None
    profiled = profile_iteration(made(memory=everything.predicted - 1), tmp_path)
    assert [part.name for part in profiled.parts] == PARTS  # marked where steps are computed again, too
    again = profiled.memory
    assert max(again.timeline.owners[KEPT]) < max(everything.timeline.owners[KEPT])


@pytest.mark.parametrize("name", ["profile.json", "trace.json"])
def test_files_stay_inside_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match="path inside"):
        profile_iteration(made(), tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("batch", [0, 1.5, True])
def test_the_batch_is_a_number_of_pictures(batch: object) -> None:
    with pytest.raises((TypeError, ValueError), match="batch"):
        made(batch=batch)


@pytest.mark.slow
def test_models_that_are_named_have_the_dtype_of_the_pipeline(tmp_path: Path) -> None:
    found = Iteration(load_pipeline("tinyworld", dtype=torch.bfloat16), num_inference_steps=1, batch=1)
    weights = [weight for module in found.modules().values() for weight in module.parameters()]
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    profiled = profile_iteration(found, tmp_path)
    assert profiled.about["dtype"] == "bfloat16" and profiled.roofline is not None
    assert profiled.roofline.ceilings.dtype == "bfloat16"


@pytest.mark.gpu
def test_on_a_gpu_kernels_and_reserved_bytes_are_measured(tmp_path: Path) -> None:
    pipeline = tiny_sd().to("cuda")
    iteration = Iteration(pipeline, Classifier(tiny_classifier().cuda(), labels=LABELS), num_inference_steps=2)
    found = profile_iteration(iteration, tmp_path)
    assert found.on_gpu and found.gaps is not None and found.launches > 100
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.total, rel=0.02)
    assert found.memory.peak > found.memory.owners["weights, denoiser"]
    assert found.memory.reserved is not None and found.memory.reserved >= max(found.memory.timeline.totals)
    assert max(found.memory.timeline.owners[KEPT]) > 0
    work = {work.name: work for work in found.roofline.families} if found.roofline else {}
    assert all(work[name].flop and work[name].share for name in ("convolution", "matmul", "attention"))


@pytest.mark.gpu
def test_a_replay_on_a_gpu_has_no_steps_but_its_bytes(tmp_path: Path) -> None:
    pipeline = tiny_sd().to("cuda")
    iteration = Iteration(
        pipeline, Classifier(tiny_classifier().cuda(), labels=LABELS), num_inference_steps=2, graphs=True
    )
    found = profile_iteration(iteration, tmp_path)
    assert found.about["sampler"]["cuda_graphs"] == "replayed"
    assert [part.name for part in found.parts if part.name.startswith("step")] == []
    assert found.memory.owners["graph and workspace, reserved beyond what was counted"] > 0
