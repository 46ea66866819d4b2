"""The page of a profile is one safe file whose bars fill what they stand for."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffexplain_fast.measuring.profile.counting import Memory, Timeline
from diffexplain_fast.measuring.profile.events import MARK, WHOLE, Call, Span
from diffexplain_fast.measuring.profile.profile import Profile, summarise
from diffexplain_fast.measuring.profile.roofline import Ceilings, Roofline, Work
from diffexplain_fast.report.profile_page import HEIGHT, ROOF_HEIGHT, WIDTH, areas, profile_text, render_profile, roof

ATTACK = '<script>alert("x")</script>'
ABOUT: dict[str, Any] = {
    "pipeline": "p",
    "classifier": "c",
    "batch": 1,
    "dtype": "float32",
    "sampler": {"num_inference_steps": 1, "scheduler": "DDIMScheduler", "guidance_scale": 1.0, "backend": "fast"},
}


def example(on_gpu: bool = False, operator: str = "aten::mm") -> Profile:
    """Return a profile of 1 s of text encoder and 3 s of one step, most of it in one operator."""
    calls = [
        Call(WHOLE, 0.0, 4.0, 0.5),
        Call(f"{MARK}text encoder", 0.0, 0.0, 0.0),
        Call(f"{MARK}step 1", 1.0, 1.0, 0.0),
    ]
    calls += [Call(operator, 1.0, 3.0, 2.0, True, (("ampere_sgemm", 1.0),)), Call("aten::add", 3.0, 4.0, 1.5, True)]
    kernels = [Span("ampere_sgemm", 1.0, 2.0), Span("reduce_kernel", 2.5, 3.0)] if on_gpu else []
    timeline = Timeline([0.0, 2.0], {"weights": [2**20, 2**20], "kept": [0, 3 * 2**20]})
    owners = {"weights, denoiser": 2**20, "text": 2**19}
    memory = Memory(4 * 2**20, "everything", owners, 5 * 2**20, timeline)
    return summarise(calls, kernels, on_gpu, memory, ABOUT)


def page(profile: Profile, folder: Path) -> str:
    """Return the page's text."""
    return render_profile(profile, folder / "profile.html").read_text(encoding="utf-8")


def test_it_says_where_the_time_and_the_bytes_went(tmp_path: Path) -> None:
    text = page(example(), tmp_path)
    for said in (
        "4000 ms",
        "matmul",
        "text encoder",
        "1 step<",
        "aten::mm",
        "weights, denoiser",
        "1.0",
        "5.0 MiB",
        "kept, at most 3.0",
    ):
        assert said in text, said
    assert "<polygon" in text and "gaps" not in text
    whole = re.search(r'<div class="stack large">(.*?)</div>', text)
    assert whole and sum(map(float, re.findall(r"width:([\d.]+)%", whole[1]))) == pytest.approx(100, abs=0.1)


def test_gaps_of_a_gpu(tmp_path: Path) -> None:
    text = " ".join(page(example(on_gpu=True), tmp_path).split())
    assert "ran kernels for 1500.0 ms and waited 500.0 ms in 1 gaps" in text and "ampere_sgemm" in text


def test_nothing_is_fetched_and_everything_is_escaped(tmp_path: Path) -> None:
    profile = example(operator=ATTACK)
    timeline = Timeline([0.0], {ATTACK: [1]})
    memory = replace(profile.memory, owners={ATTACK: 1}, covers=ATTACK, timeline=timeline)
    text = page(replace(profile, about=ABOUT | {"pipeline": ATTACK, "classifier": ATTACK}, memory=memory), tmp_path)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 8
    assert not re.search(r"(src|href)=|url\(|@import|http:|https:", text)


def test_a_profile_without_bytes_has_no_curve(tmp_path: Path) -> None:
    profile = example()
    text = page(replace(profile, memory=replace(profile.memory, timeline=Timeline([], {}))), tmp_path)
    assert "<polygon" not in text


def test_what_the_allocator_reserved_is_said(tmp_path: Path) -> None:
    profile = example(on_gpu=True)
    text = page(replace(profile, memory=replace(profile.memory, reserved=7 * 2**20)), tmp_path)
    assert "reserved 7.0 MiB" in text and "reserved" not in page(profile, tmp_path)


def test_a_replay_is_said(tmp_path: Path) -> None:
    replayed = replace(example(), about=ABOUT | {"sampler": {**ABOUT["sampler"], "cuda_graphs": "replayed"}})
    assert "replayed CUDA graphs" in page(replayed, tmp_path) and "graphs were replayed" in profile_text(replayed)
    assert "replayed" not in page(example(), tmp_path) + profile_text(example())


def roofline(name: str = "aten::mm") -> Roofline:
    """Return work at 1 and at 100 FLOP per byte under a ridge at 10, and some that was not counted."""
    low = Work("matmul", "matmul", 2, 2, 1.0, 10**9, 10**9, 1.0, 0.1)
    high = Work(name, "matmul", 1, 2, 1.0, 10**10, 10**8, 100.0, 0.1)
    nothing = Work("norm", "norm", 0, 3, 0.0, None, 0, None, None)
    return Roofline(Ceilings("float32", 1e11, 1e10), [low, nothing], [high])


def test_work_stands_below_the_roof() -> None:
    chart = roof(roofline())
    assert chart is not None
    points = [tuple(map(float, point.split(","))) for point in chart["points"].split()]
    assert points == [(0, ROOF_HEIGHT / 2), (WIDTH / 2, 0), (WIDTH, 0)]
    places = [(place, large) for place, _, large, _ in chart["dots"]]
    assert places == [((WIDTH, ROOF_HEIGHT / 2), False), ((0, ROOF_HEIGHT), True)]
    assert [text for _, text in chart["x_ticks"]] == ["1", "10", "100"]
    assert [text for _, text in chart["y_ticks"]] == ["1", "10", "100"]


def test_no_roof_without_flop(tmp_path: Path) -> None:
    bare = replace(roofline(), families=roofline().families[1:], operators=[])
    assert roof(bare) is None
    text = page(replace(example(), roofline=bare), tmp_path)
    assert "not counted" in text and "<circle" not in text


def test_the_page_has_the_roofline(tmp_path: Path) -> None:
    text = page(replace(example(), roofline=roofline(ATTACK)), tmp_path)
    assert text.count("<circle") == 2 and "<script" not in text and "1 of 2" in text
    assert "100.0 GFLOP/s in a large float32 matrix" in text and "<circle" not in page(example(), tmp_path)


def test_layers_lie_on_one_another() -> None:
    (low_owner, _, low), (high_owner, _, high) = areas(Timeline([0.0, 1.0], {"low": [1, 1], "high": [0, 3]}), 2.0)
    half, level = WIDTH / 2, HEIGHT * 0.75
    corners = [tuple(map(float, point.split(","))) for point in high.split()]
    assert corners[:4] == [(0, level), (half, level), (half, 0), (WIDTH, 0)]
    assert corners[4:] == [(WIDTH, level), (half, level), (half, level), (0, level)]
    assert low.startswith(f"0.0,{level:.1f}") and low.endswith(f"0.0,{HEIGHT:.1f}")
    assert (low_owner, high_owner) == ("low", "high") and areas(Timeline([], {}), 1.0) == []
