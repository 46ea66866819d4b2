"""Run an iteration under torch's profiler, count its tensors, and write what was seen."""

import json
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.profile.counting import (
    Counter,
    Life,
    Memory,
    bytes_by_owner,
    counting,
    match,
    most_bytes,
    starts,
    timeline,
)
from diffexplain_fast.measuring.profile.events import MARK, WHOLE, Call, device_kernels, host_calls
from diffexplain_fast.measuring.profile.iteration import BACKWARD, CLASSIFIER, Iteration
from diffexplain_fast.measuring.profile.profile import TOP, Profile, summarise
from diffexplain_fast.measuring.profile.roofline import make_roofline, measure_ceilings
from diffexplain_fast.storage import confined, write_bytes_atomic, write_json_atomic

PROFILE, TRACE = "profile.json", "trace.json"
_WARM_UP = 3  # iterations until graphs are replayed: the first of a kind, and the one that is recorded, come before
_LAYOUTS = "weights in other layouts"  # name of a plan's part


def profile_iteration(iteration: Iteration, out: str | Path) -> Profile:
    """Run an iteration to warm up, one under the profiler, and one that counts tensors; write what was seen.

    Where graphs are replayed, several warm up, so that neither of the other two records a graph.

    Args:
        iteration: what to run.
        out: folder for ``profile.json``, which records the result, and the Chrome trace ``trace.json``.

    Raises:
        StorageError: no space or no permission.
        UnsafeFileError: one of the files is a link that leads out of the folder.
    """
    places = [confined(out, name) for name in (PROFILE, TRACE)]
    for _ in range(_WARM_UP if iteration.graphs else 1):
        iteration.run()
    if iteration.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * iteration.on_gpu
    # acc_events: there is only one cycle, but older versions of torch warn that others would be lost.
    with torch_profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        iteration.run()
    allocated = torch.cuda.max_memory_allocated() if iteration.on_gpu else None
    if iteration.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with counting() as counted:
        iteration.run()
    reserved = torch.cuda.max_memory_reserved() if iteration.on_gpu else None
    events = profiler.events()
    assert events is not None
    calls = host_calls(events)
    call_of = match(counted.operations, calls)
    whole = next(call for call in calls if call.name == WHOLE)
    memory = _memory(iteration, whole, counted, call_of, (allocated, reserved))
    ceilings = measure_ceilings(iteration.problem.pipeline.device, iteration.problem.pipeline.dtype)
    roofline = make_roofline(counted.operations, call_of, calls, iteration.on_gpu, ceilings, TOP)
    summary = summarise(calls, device_kernels(events), iteration.on_gpu, memory, _about(iteration), roofline)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TRACE
        profiler.export_chrome_trace(str(path))
        # The trace has the name of the file that torch wrote.
        trace = path.read_bytes().replace(json.dumps(str(path)).encode(), json.dumps(TRACE).encode())
    write_bytes_atomic(places[1], trace)
    write_json_atomic(places[0], summary.record())
    return summary


def _about(iteration: Iteration) -> dict[str, object]:
    """Return what ran and on what, as JSON values."""
    problem, dtype = iteration.problem, str(iteration.problem.pipeline.dtype).removeprefix("torch.")
    names = {"pipeline": problem.pipeline.name, "classifier": problem.classifier.name}
    about = {"batch": iteration.batch, "dtype": dtype, "device": device_record(), "versions": versions()}
    return {**names, **about, "sampler": problem.sampler.record()}


def _memory(
    iteration: Iteration, whole: Call, counted: Counter, call_of: list[Call | None], most: tuple[int | None, int | None]
) -> Memory:
    """Return the peak and who owns bytes; the peak is measured on a GPU and counted on the CPU.

    On a GPU ``most`` are the most bytes that the allocator gave to tensors, and that it reserved.
    """
    owners = {
        f"weights, {name}": sum(weight.nbytes for weight in (*module.parameters(), *module.buffers()))
        for name, module in iteration.modules().items()
    }
    weights, plan = sum(owners.values()), iteration.problem.sampler.plan
    if plan is not None:
        owners |= {name: size for name, size in plan.parts.items() if name != "weights"}
        weights += plan.parts.get("weights in other layouts", 0)
    backward = next(before for before, name in counted.ranges if name == MARK + CLASSIFIER + BACKWARD)
    lives: dict[bool, list[Life]] = {True: [], False: []}
    for life in counted.lives:
        lives[life.device == iteration.problem.pipeline.device.type].append(life)
    here, there = (bytes_by_owner(lives[side], len(counted.operations), backward) for side in (True, False))
    shown = timeline(here, weights, starts(call_of, whole.start), whole.end - whole.start)
    peak, covers = max(shown.totals) - weights, "tensors of the iteration, beside all weights and their layouts"
    allocated, reserved = most
    if allocated is not None and reserved is not None:
        owners["on the host, most at once, counted"] = most_bytes(there)
        owners["graph and workspace, reserved beyond what was counted"] = max(reserved - max(shown.totals), 0)
        peak, covers = allocated, "all tensors on the GPU, weights included"
    return Memory(peak, covers, owners, None if plan is None else plan.peak, shown, reserved)
