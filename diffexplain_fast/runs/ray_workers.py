"""Units of work on the GPUs of one machine or of many, by Ray: a worker for each GPU, a dead one is replaced."""

import importlib
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from diffexplain_fast.environment import without_usage_reports
from diffexplain_fast.errors import wrong_type, wrong_value

_TRIES = 3
"""How often a unit is begun whose worker dies."""
_PATIENCE = 10.0
"""Seconds in which a cluster has to answer."""


@dataclass(frozen=True)
class RayWorkers:
    """Where workers run, and how each of them gets its pipeline.

    Ray sends objects between processes by pickle, so use only machines and networks that you trust.

    Args:
        address: "auto" for the cluster of this machine or, without one, for this machine alone; or the address of a
            cluster, such as "ray://head:10001" or "head:6379".
        make: function of a device, "cpu" or "cuda", that returns the pipeline in a worker; it must be importable there.
            None sends the pipeline itself, which works on the CPU only.

    Raises:
        TypeError: an address that is no text, or something else than a function.
    """

    address: str = "auto"
    make: Callable[[str], object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not self.address:
            raise wrong_type("ray", '"auto" or the address of a cluster', self.address)
        if self.make is not None and not callable(self.make):
            raise wrong_type("ray, make", "a function of a device, or None", self.make)


class Worker(Protocol):
    """What a process of a crew does."""

    def make(self, *unit: object) -> bytes:
        """Return the content of a unit."""


class _Process:
    """A worker in a process of Ray.

    Args:
        kept: reference to the class of the worker and its arguments.
    """

    def __init__(self, kept: list[object]) -> None:
        worker, arguments = importlib.import_module("ray").get(kept[0])
        self._worker: Worker = worker(*arguments)

    def make(self, *unit: object) -> bytes:
        """Return the content of a unit."""
        return self._worker.make(*unit)


class _Method(Protocol):
    def remote(self, *arguments: object) -> object: ...


class Remote(Protocol):
    """A worker as the caller sees it."""

    @property
    def make(self) -> _Method: ...


class Actors:
    """Workers in processes of Ray, until the ``with`` block ends.

    Args:
        address: see ``RayWorkers``.
        worker: class of the workers.
        arguments: with which each of them is made.
        gpu: whether a worker needs a GPU: then there is one for each of them.
        threads: processors of a worker without a GPU: as many workers as fit.

    Raises:
        ImportError: Ray is not installed; names the extra.
        ValueError: no cluster at the address, no GPU where workers need one, or a worker that cannot begin.
    """

    def __init__(
        self, address: str, worker: Callable[..., Worker], arguments: tuple[object, ...], gpu: bool, threads: int
    ) -> None:
        self._ray = _imported()
        self._began, self._workers = _joined(self._ray, address), list[Remote]()
        try:
            resources = self._ray.cluster_resources()
            count = int(resources.get("GPU", 0)) if gpu else max(int(resources.get("CPU", 1)) // max(threads, 1), 1)
            if not count:
                raise wrong_value("ray", "a cluster with GPUs, because the pipeline is on one", "none")
            needs = {"num_gpus": 1} if gpu else {"num_cpus": min(threads, int(resources.get("CPU", 1)))}
            self._process, self._kept = self._ray.remote(**needs)(_Process), self._ray.put((worker, arguments))
            self._workers = [self._begun() for _ in range(count)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Actors":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and Ray where it was begun here."""
        for worker in self._workers:
            self._ray.kill(worker)
        if self._began:
            self._ray.shutdown()

    def _begun(self) -> Remote:
        worker: Remote = self._process.remote([self._kept])
        return worker

    def made(self, units: Mapping[str, tuple[object, ...]]) -> Iterator[tuple[str, bytes]]:
        """Yield key and content of units as they are made.

        Args:
            units: key to the arguments of ``Worker.make``.

        Raises:
            Exception: what a worker raised.
            ValueError: a unit whose workers died three times, or that no worker could begin.
        """
        waiting, idle, tries = deque(units), deque(self._workers), Counter[str]()
        running: dict[object, tuple[str, Remote]] = {}
        while waiting or running:
            while waiting and idle:
                key, worker = waiting.popleft(), idle.popleft()
                tries[key] += 1
                running[worker.make.remote(*units[key])] = key, worker
            (done, *_), _ = self._ray.wait(list(running), num_returns=1)
            key, worker = running.pop(done)
            try:
                content = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise getattr(error, "cause", None) or error from None
            except self._ray.exceptions.RayActorError as error:
                if tries[key] >= _TRIES:
                    got = f"{key}, whose workers died {_TRIES} times: {error}"
                    raise wrong_value("ray", "workers that make every unit", got) from error
                self._workers.remove(worker)
                worker = self._begun()
                self._workers.append(worker)
                waiting.append(key)
            else:
                yield key, content
            idle.append(worker)


def _imported() -> ModuleType:
    without_usage_reports()
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError('ray= needs Ray: pip install "diffexplain-fast[ray]"') from error


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody answers, for which Ray itself waits many minutes.

    Raises:
        ValueError: see above.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():  # "auto" and other names
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise wrong_value("ray", "the address of a running cluster", f"{address}: {error}") from error


def _joined(ray: ModuleType, address: str) -> bool:
    """Join a cluster, or begin one on this machine; return whether it was joined here and is to be left again."""
    if ray.is_initialized():
        return False
    _check_answers(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != "auto":
            raise wrong_value("ray", "the address of a running cluster", f"{address}: {error}") from error
        ray.init(address="local", include_dashboard=False, **quiet)
    return True
