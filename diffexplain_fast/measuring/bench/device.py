"""Memory, multiplications, clocks and energy of an iteration; None where the machine does not tell."""

import ctypes
import functools
import gc
import re
import subprocess
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from diffexplain_fast.engine.memory.counting import Count, Options, Results, count, live_bytes
from diffexplain_fast.engine.memory.flop import Arguments
from diffexplain_fast.measuring.bench.workloads import Make, Workload

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # written to clear_refs, it makes Linux forget the most memory that a process ever had
_QUERIES = {"driver": "driver_version", "sm_mhz": "clocks.sm", "memory_mhz": "clocks.mem"}
_QUERIES |= {"power_limit_w": "power.limit"}
_Figures = dict[str, int | None]
_State = dict[str, str | float | None]


class Held(NamedTuple):
    """Bytes on a GPU between two iterations; 0 on the CPU."""

    allocated: int  # of tensors
    reserved: int  # taken from the driver; a CUDA graph's own pool is in no other number


NOTHING = Held(0, 0)


def held_bytes(device: torch.device) -> Held:
    """Return the bytes that this process holds on a device while nothing runs."""
    if device.type != "cuda":
        return NOTHING
    gc.collect()  # a recording lies in circles of references
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    return Held(torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device))


def memory(run: Callable[[], object], device: torch.device, own: Held = NOTHING) -> _Figures:
    """Return the memory of an iteration that runs on a device.

    Args:
        run: the iteration.
        device: where it runs.
        own: bytes held for it between iterations, weights included; other bytes of the process are left out.

    Returns:
        ``peak_bytes``: most bytes of tensors alive at once, weights included on a GPU only. ``reserved_bytes``: most
        that torch took from the driver, and ``left_bytes``: what the card had left then; None on the CPU.
        ``resident_bytes``: how far the process's resident memory grew; None on a GPU and where Linux does not tell.
    """
    figures: _Figures = dict.fromkeys(("peak_bytes", "reserved_bytes", "resident_bytes", "left_bytes"))
    if device.type != "cuda":
        with live_bytes() as live:
            run()
        return figures | {"peak_bytes": live.peak, "resident_bytes": resident_bytes(run)}
    before = held_bytes(device)
    others = Held(before.allocated - own.allocated, before.reserved - own.reserved)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    free, _ = torch.cuda.mem_get_info(device)
    # A graph allocates nothing when it is replayed; its memory is reserved for it.
    peak = max(torch.cuda.max_memory_allocated(device) - others.allocated, own.reserved)
    reserved = torch.cuda.max_memory_reserved(device) - others.reserved
    return figures | {"peak_bytes": peak, "reserved_bytes": reserved, "left_bytes": free + others.reserved}


def resident_bytes(run: Callable[[], object]) -> int | None:
    """Return the bytes of resident memory that a call adds at most; None outside Linux, which tells them in /proc."""
    try:
        # Memory that the allocator keeps for later would hide the memory that a call needs.
        if _PROCESS.exists() and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
        before = _status("VmRSS")
        run()
        return max(_status("VmHWM") - before, 0)
    except OSError:
        return None


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    found = re.search(rf"^{name}:\s+(\d+) kB", (_PROCESS / "status").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status does not say {name}")
    return 1024 * int(found[1])


class _Fused(TorchFunctionMode):
    """Lets attention keep as much on the meta device as on a GPU: torch would count all weights of every query."""

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: Arguments = (), kwargs: Options | None = None
    ) -> object:
        options = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) == 3 and options.get("attn_mask") is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args, scale=options.get("scale"))[0]
        return func(*args, **options)


def needs(make: Make, dtype: torch.dtype, device: torch.device) -> Count | None:
    """Count an iteration by plain autograd without running it; None for models that need contents of tensors to run.

    Counting is quick on the meta device; a workload that cannot be made there is counted on the device it runs on.
    """
    for place in (torch.device("meta"), device):
        with suppress(Exception):  # it may be anybody's pipeline
            return counted(make(place, dtype))
    return None


def counted(workload: Workload) -> Count:
    """Return the count of an iteration, where all steps cost the same: those of one and two are counted."""
    known = Results()

    def of(steps: int) -> Count:
        short = workload.with_options(steps=steps)
        images, latents = short.setting.sampler(backend="reference"), short.latents(0)
        with _Fused() if workload.setting.device.type == "meta" else nullcontext():
            return count(lambda soft: short.loss(images(short.embeds(soft), latents)), [short.start], [], known)

    more = workload.setting.steps - 1
    return Count(*(one + more * (two - one) for one, two in zip(of(1), of(2), strict=True)))


def driver_state(device: torch.device) -> _State | None:
    """Return a GPU's driver, clocks in MHz and power limit in watts by nvidia-smi; None where it does not tell."""
    if device.type != "cuda":
        return None
    query = f"--query-gpu={','.join(_QUERIES.values())}"
    command = ["nvidia-smi", f"--id={_uuid(device)}", query, "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return parse_driver_state(told.stdout)
    return None


def parse_driver_state(told: str) -> _State | None:
    """Return the values in a line of nvidia-smi; None for a value that is not supported, and for another form."""
    values = [value.strip() for value in told.strip().split(",")]
    if len(values) != len(_QUERIES):
        return None
    numbers = [float(value) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) else None for value in values[1:]]
    return dict(zip(_QUERIES, [values[0], *numbers], strict=True))


def joules(device: torch.device) -> float | None:
    """Return the energy a GPU has used since its driver was loaded, None where NVML, or pynvml, does not tell."""
    counter = _energy_counter(_uuid(device)) if device.type == "cuda" else None
    return None if counter is None else counter() / 1e3


@functools.cache
def _energy_counter(uuid: str) -> Callable[[], int] | None:
    """Return a function that reads a GPU's energy in millijoules."""
    with suppress(ImportError):
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            device = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(device)  # some GPUs do not tell
            return functools.partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, device)
    return None


def _uuid(device: torch.device) -> str:
    """A GPU's name for the driver, which does not follow CUDA_VISIBLE_DEVICES."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
