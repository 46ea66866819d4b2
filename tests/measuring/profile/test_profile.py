"""What is added up from calls and kernels that were written down by hand."""

import pytest

from diffexplain_fast.measuring.profile.counting import Memory, Timeline
from diffexplain_fast.measuring.profile.events import MARK, WHOLE, Call, Span, split_parts
from diffexplain_fast.measuring.profile.profile import Share, gaps_between, merge_steps, summarise
from diffexplain_fast.report.profile_page import profile_text

MEMORY = Memory(3 * 2**20, "everything", {"weights, denoiser": 2**20}, None, Timeline([], {}))
ABOUT = {
    "pipeline": "p",
    "classifier": "c",
    "batch": 1,
    "dtype": "float16",
    "sampler": {"num_inference_steps": 2, "scheduler": "DDIMScheduler", "guidance_scale": 1.0, "backend": "fast"},
}


def mark(name: str, start: float) -> Call:
    return Call(MARK + name, start, start, 0.0)


def host(steps: list[str], backward: list[str]) -> list[Call]:
    """Return an iteration of 10 s: sampler from 1 to 6, its backward from 7 to 9."""
    calls = [Call(WHOLE, 0.0, 10.0, 0.0), mark("text encoder", 0.0), mark("sampler", 1.0), mark("classifier", 6.0)]
    calls += [Call(name, 2.0 + i, 2.5 + i, 0.1) for i, name in enumerate(steps)]
    calls += [mark("sampler, backward", 7.0), mark("text encoder, backward", 9.0)]
    calls += [Call(name, 7.5 + i / 2, 7.6 + i / 2, 0.1) for i, name in enumerate(backward)]
    return sorted(calls, key=lambda call: (call.start, -call.end))


def test_the_engines_ranges_split_the_sampler() -> None:
    parts = split_parts(host(["step 1", "step 2", "decoder"], ["decoder, backward", "step 2, backward"]))
    names = ["text encoder", "sampler", "step 1", "step 2", "decoder", "classifier", "sampler, backward"]
    assert [part.name for part in parts] == [
        *names,
        "decoder, backward",
        "step 2, backward",
        "text encoder, backward",
    ]
    assert [part.start for part in parts] == [0, 1, 2, 3, 4, 6, 7, 7.5, 8, 9]
    assert [part.end for part in parts] == [1, 2, 3, 4, 6, 7, 7.5, 8, 9, 10]


def test_a_replay_is_one_part() -> None:
    parts = split_parts(host([], ["decoder of somebody else", "aten::mm"]))
    assert [part.name for part in parts][1::2] == ["sampler", "sampler, backward"]


def test_kernels_count_where_they_were_launched() -> None:
    calls = host([], [])
    launching = Call("aten::mm", 0.5, 0.6, 0.1, True, (("ampere_sgemm", 2.0),))
    later = Call("aten::cudnn_convolution", 8.0, 8.1, 0.1, True, (("winograd_a", 1.0), ("Memset (Device)", 0.5)))
    kernels = [Span("ampere_sgemm", 5.0, 7.0), Span("winograd_a", 8.5, 9.5), Span("Memset (Device)", 9.5, 10.0)]
    found = summarise([*calls, launching, later], kernels, True, MEMORY, ABOUT)
    parts = {part.name: part for part in found.parts}
    assert parts["text encoder"].families == {"matmul": 2.0} and parts["text encoder"].launches == 1
    assert parts["sampler, backward"].families == {"convolution": 1.0, "layout and copy": 0.5}
    assert found.total == 3.5 and found.launches == 3 and found.wall == 10.0
    assert [share.name for share in found.families] == ["matmul", "convolution", "layout and copy"]
    assert found.gaps is not None and found.gaps.seconds == found.gaps.longest == 1.5 and found.gaps.number == 1
    assert "waited 1500.0 ms in 1 gaps" in profile_text(found)


def test_operators_count_by_their_own_time() -> None:
    calls = [*host([], []), Call("aten::linear", 0.1, 0.9, 0.1, True), Call("aten::addmm", 0.2, 0.8, 0.6)]
    found = summarise(calls, [], False, MEMORY, ABOUT)
    part = found.parts[0]
    assert part.families == pytest.approx({"matmul": 0.7, "host": 0.3}) and part.launches == found.launches == 1
    assert sum(share.seconds for share in found.parts) == pytest.approx(found.wall) and found.gaps is None
    assert [share.name for share in found.kernels] == ["aten::addmm", "aten::linear"]


def test_overlapping_kernels_leave_no_gap_between_them() -> None:
    found = gaps_between([Span("a", 0, 4), Span("b", 1, 2), Span("c", 3, 5), Span("d", 6, 7), Span("e", 9, 9.5)])
    assert found.seconds == 3 and found.number == 2 and found.longest == 2
    assert gaps_between([]).seconds == 0


def test_steps_merge_into_one_share_each_way() -> None:
    parts = [Share("step 1", 1.0, 2, {"norm": 1.0}), Share("step 2", 2.0, 3, {"norm": 0.5, "host": 1.5})]
    parts += [Share("decoder", 1.0, 1, {"host": 1.0}), Share("step 2, backward", 1.0, 1, {})]
    assert merge_steps(parts) == [
        Share("2 steps", 3.0, 5, {"norm": 1.5, "host": 1.5}),
        parts[2],
        Share("1 step, backward", 1.0, 1, {}),
    ]
