"""Versions and devices, which ``doctor`` prints and every result records, and what the environment's variables say.

Importing this file does not import torch, so that ``share_processors`` can come first.
"""

import os
import platform
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from diffexplain_fast.errors import describe, wrong_type, wrong_value

if TYPE_CHECKING:
    import torch

CACHE_VARIABLE = "DIFFEXPLAIN_FAST_CACHE"
_SPINS = "10000"
"""How often a waiting thread of GNU's OpenMP looks before it sleeps: about .1 ms, longer than the call of an operation
and shorter than the turn of another process. OpenMP's own 3 ms are lost at every wait for one without processor."""
_CGROUP = Path("/sys/fs/cgroup")
_LOAD = Path("/proc/loadavg")
_PACKAGES = ("diffusers", "transformers", "triton", "xformers", "numpy")


class Devices(TypedDict):
    """The result of ``device_record``."""

    cpu: str
    threads: int
    cuda: list[str]


class Ranks(NamedTuple):
    """The processes that torchrun, ``accelerate launch`` or another launcher has started for one run.

    Attributes:
        rank: number of this process, from 0.
        processes: of the run; 1 without a launcher.
        local: number of this process on its machine, from 0.
    """

    rank: int = 0
    processes: int = 1
    local: int = 0


def versions() -> dict[str, str | None]:
    """Return the versions of Python, this package and its libraries; None for a library that is not installed."""
    import torch

    return {
        "python": platform.python_version(),
        # In a checkout that is not installed, only the package knows its version.
        "diffexplain_fast": _installed("diffexplain-fast") or sys.modules["diffexplain_fast"].__version__,
        "torch": str(torch.__version__),  # includes the build, such as +cu130, which the metadata may lack
        **{name: _installed(name) for name in _PACKAGES},
    }


def device_record() -> Devices:
    """Return the processor, the number of threads that torch uses, and the CUDA devices, as JSON values."""
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "cuda": cuda}


def ranks() -> Ranks:
    """Return which of the processes of one run this is, as their launcher's variables say; see ``Ranks``."""
    found = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(text.isascii() and text.isdigit() for text in found[:2]):
        return Ranks()
    rank, count, local = (int(text) if text.isascii() and text.isdigit() else 0 for text in found)
    return Ranks(rank, count, local) if rank < count else Ranks()


def default_device() -> "torch.device":
    """Return the first CUDA device, that of this rank among several, or the CPU if there is none."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    here = ranks()
    # A launcher may also show each rank only one device.
    return torch.device("cuda" if here.processes == 1 else f"cuda:{here.local % torch.cuda.device_count()}")


def devices_here() -> str:
    """Return a text that names the devices of this machine."""
    import torch

    count = torch.cuda.device_count()
    if count:
        return f"'cpu', or 'cuda' or 'cuda:N' with N below {count}"
    lack = "is built without CUDA" if torch.version.cuda is None else "finds no GPU"
    return f"'cpu' (this torch, {torch.__version__}, {lack})"


def check_device(device: "str | torch.device | None") -> None:
    """Refuse a device on which nothing can be put; None is no device, and allowed.

    Raises:
        TypeError: no name and no device.
        ValueError: see above; the message names the devices of this machine.
    """
    import torch

    if device is not None and not isinstance(device, str | torch.device):
        raise wrong_type("device", "a torch.device, its name, or None", device)
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # a device that torch does not know, or was built without
        raise wrong_value("device", devices_here(), repr(str(device))) from error


def cache_folder() -> Path:
    """Return the user's folder for what takes long to make and can be made again; it need not exist.

    It is what the environment variable ``DIFFEXPLAIN_FAST_CACHE`` says, otherwise ``diffexplain_fast`` in
    ``XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    own, shared = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "diffexplain_fast"


def cublas_workspace_config() -> str | None:
    """Return the size of cuBLAS's workspaces that the environment sets, or None."""
    return os.environ.get("CUBLAS_WORKSPACE_CONFIG")


def may_compile() -> bool:
    """Whether the first use may compile the C++ kernels: ``DIFFEXPLAIN_FAST_BUILD=0`` forbids it."""
    return os.environ.get("DIFFEXPLAIN_FAST_BUILD", "auto") != "0"


def may_precompile() -> bool:
    """Whether the first call on a GPU compiles its kernels at once: ``DIFFEXPLAIN_FAST_PRECOMPILE=0`` forbids it."""
    return os.environ.get("DIFFEXPLAIN_FAST_PRECOMPILE", "auto") != "0"


def processors() -> int:
    """Return how many processors this process may use at once, at least 1."""
    quota = processor_quota()
    return _allowed() if quota is None else max(1, min(_allowed(), int(quota)))


def _allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def without_usage_reports() -> None:
    """Keep Ray from reporting its use over the network, unless the environment says otherwise; before Ray begins."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def ray_address() -> str | None:
    """Return the address of a cluster of Ray that the environment names, which "auto" then means, or None."""
    return os.environ.get("RAY_ADDRESS") or None


def share_processors() -> None:
    """Let torch's threads fit a machine that others use too, and a container with a quota; before torch is imported.

    A thread that waits soon sleeps, and there are not more threads than the quota has processors, nor than a fair share
    of the machine beside what is busy now: threads wait for each other after every operation, so that two that hardly
    ever run at the same moment take longer than one. What the environment says already stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    if "OMP_NUM_THREADS" not in os.environ:
        threads = min(processors(), fair_share(os.cpu_count() or 1, busy_processors()))
        if threads < _allowed():
            os.environ["OMP_NUM_THREADS"] = str(threads)


def fair_share(machine: int, others: int) -> int:
    """Return how many processors a process gets that uses all of a machine, beside others of one thread each.

    Args:
        machine: its processors.
        others: busy processes.
    """
    return max(1, machine * machine // (machine + others))


def busy_processors(looks: int = 4, file: Path = _LOAD) -> int:
    """Return how many other threads run or wait for a processor: the fewest of some looks, as most end within one.

    Args:
        looks: so many, 10 ms apart.
        file: in which Linux tells it; 0 where there is none.
    """
    seen = []
    for look in range(looks):
        time.sleep(0.01 if look else 0)
        try:
            seen.append(int(file.read_text().split()[3].partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return 0
    return max(0, min(seen))


def processor_quota(cgroup: Path = _CGROUP) -> float | None:
    """Return how many processors a container may use at once, None for all.

    Args:
        cgroup: folder in which Linux tells the limits of the container, of version 1 or 2 of control groups.
    """
    try:
        if (cgroup / "cpu.max").exists():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        quota = float(limit) / float(period)
    except (OSError, ValueError):  # another system, or "max", which is no limit
        return None
    return quota if quota > 0 else None


def extra(library: str, argument: str, install: str | None = None) -> ModuleType:
    """Import a library that only some uses need, or say how to install it.

    Args:
        library: its name, also that of the extra that brings it.
        argument: what needs the library, for the message.
        install: what pip installs where no extra brings it; None for the extra.

    Raises:
        ImportError: it is not installed, or does not work.
    """
    try:
        return import_module(library)
    except ImportError as error:
        wanted = f"the package {library} (pip install '{install or f'diffexplain-fast[{library}]'}')"
        raise ImportError(describe(argument, wanted, error)) from error


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
