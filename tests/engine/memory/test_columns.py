"""Columns inside of convolutions on the CPU: counted is what torch's profiler sees, in every dtype."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from diffexplain_fast.engine.memory.columns import column_dtypes
from diffexplain_fast.engine.memory.counting import Results, count, live_bytes
from diffexplain_fast.engine.memory.resident import weight_bytes
from tests.engine.fast.cases import Case, inputs_of, parts, results, sampler_for

CPU = torch.device("cpu")
SLOW = [dtype for dtype in (torch.float16, torch.float64) if dtype in column_dtypes(CPU)]


def allocated(run: Callable[[], object], folder: Path) -> int:
    """Return the most bytes that torch's allocator gave at once beside those from before, as its profiler sees them."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        run()
    seen.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = sorted((one for one in events if one.get("name") == "[memory]"), key=lambda one: one["ts"])
    totals = [one["args"]["Total Allocated"] for one in memory]
    return max(totals) - (totals[0] - memory[0]["args"]["Bytes"])


def test_float64_has_columns_and_no_other_device_does() -> None:
    assert torch.float64 in column_dtypes(CPU)  # which oneDNN does not have
    assert not column_dtypes(torch.device("cuda")) and not column_dtypes(torch.device("meta"))
    if torch.backends.mkldnn.is_available():
        assert torch.float32 not in column_dtypes(CPU)
        torch._C._set_mkldnn_enabled(False)
        try:
            assert torch.bfloat16 in column_dtypes(CPU)
        finally:
            torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize("dtype", SLOW)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("taps", "stride", "padding"), [(3, 1, 1), (1, 1, 0), (3, 2, 1), (1, 2, 0)])
def test_one_convolution_takes_what_is_counted(
    dtype: torch.dtype, transposed: bool, taps: int, stride: int, padding: int, tmp_path: Path
) -> None:
    image, weight = torch.rand(2, 8, 16, 16).to(dtype), torch.rand(8, 8, taps, taps).to(dtype)
    convolve = F.conv_transpose2d if transposed else F.conv2d

    def run(pixels: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return convolve(pixels, kernel, None, stride, padding)

    seen = allocated(lambda: run(image, weight), tmp_path)
    with live_bytes() as live:
        run(image, weight)
    known = Results()
    known.columns = column_dtypes(CPU)
    twin = weight.to("meta")
    with torch.no_grad():
        forward = run(image, weight).nbytes
    assert live.peak == seen >= forward
    told = count(lambda pixels: run(pixels, twin), [image.to("meta")], [twin], known)
    assert told.peak >= seen and told.kept == 0


@pytest.mark.parametrize("share", [None, 0.75])
@pytest.mark.parametrize("dtype", [torch.float32, *SLOW])
def test_a_plan_on_the_cpu_holds_in_every_dtype(dtype: torch.dtype, share: float | None, tmp_path: Path) -> None:
    case, inputs, models = Case(steps=1), inputs_of("sd15", dtype=dtype), parts("sd15", dtype)
    inputs["latents"] = torch.randn(1, inputs["latents"].shape[1], 32, 32).to(dtype)
    for module in vars(models).values():
        module.requires_grad_(False)

    def planned(memory: int | None) -> tuple[Any, int]:
        sampler = sampler_for(case, "fast", dtype, memory=memory)
        seen = allocated(lambda: results(sampler, inputs, ("prompt_embeds",)), tmp_path)
        return sampler.plan, seen

    plan, seen = planned(None)
    if share is not None:
        plan, seen = planned(int(share * plan.peak))
    resident = weight_bytes([*vars(models).values()]) + plan.parts.get("weights in other layouts", 0)
    assert 0.8 * plan.peak <= seen + resident <= 1.02 * plan.peak
