"""The page of a profile is one safe file whose bars fill what they stand for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from diffexplain_fast.profiling.events import MARK, WHOLE, Call, Kernel
from diffexplain_fast.profiling.profile import Memory, Profile, summarise
from diffexplain_fast.report.profile_page import HEIGHT, WIDTH, curve_points, render_profile

ATTACK = '<script>alert("x")</script>'
ABOUT = {
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
    kernels = [Kernel("ampere_sgemm", 1.0, 2.0), Kernel("reduce_kernel", 2.5, 3.0)] if on_gpu else []
    memory = Memory(
        4 * 2**20, "everything", {"weights, denoiser": 2**20, "kept": 2**19}, 5 * 2**20, [(0.0, 0), (1.0, 8)]
    )
    return summarise(calls, kernels, on_gpu, memory, ABOUT)


def page(profile: Profile, folder: Path) -> str:
    """Return the page's text."""
    return render_profile(profile, folder / "profile.html").read_text(encoding="utf-8")


def test_it_says_where_the_time_and_the_bytes_went(tmp_path: Path) -> None:
    text = page(example(), tmp_path)
    for said in ("4000 ms", "matmul", "text encoder", "1 steps", "aten::mm", "weights, denoiser", "1.0", "5.0 MiB"):
        assert said in text, said
    assert "<polyline" in text and "gaps" not in text
    whole = re.search(r'<div class="stack large">(.*?)</div>', text)
    assert whole and sum(map(float, re.findall(r"width:([\d.]+)%", whole[1]))) == pytest.approx(100, abs=0.1)


def test_gaps_of_a_gpu(tmp_path: Path) -> None:
    text = " ".join(page(example(on_gpu=True), tmp_path).split())
    assert "ran kernels for 1500.0 ms and waited 500.0 ms in 1 gaps" in text and "ampere_sgemm" in text


def test_nothing_is_fetched_and_everything_is_escaped(tmp_path: Path) -> None:
    profile = example(operator=ATTACK)
    memory = replace(profile.memory, owners={ATTACK: 1}, covers=ATTACK)
    text = page(replace(profile, about=ABOUT | {"pipeline": ATTACK, "classifier": ATTACK}, memory=memory), tmp_path)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 6
    assert not re.search(r"(src|href)=|url\(|@import|http:|https:", text)


def test_a_profile_without_bytes_has_no_curve(tmp_path: Path) -> None:
    profile = example()
    assert "<polyline" not in page(replace(profile, memory=replace(profile.memory, curve=[])), tmp_path)


def test_the_curve_fills_its_box() -> None:
    points = [
        tuple(map(float, point.split(","))) for point in curve_points([(0.0, 0), (1.0, 10), (2.0, -5)], 4.0).split()
    ]
    assert points[0] == (0, pytest.approx(HEIGHT * 10 / 15, abs=0.1)) and points[-1] == (WIDTH, HEIGHT)
    assert (WIDTH / 4, 0) in points and curve_points([(0.0, 0)], 1.0) == curve_points([], 1.0) == ""
