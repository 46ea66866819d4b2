"""Units of work on the GPUs of one machine or of many, by Ray: a worker for each GPU, a dead one is replaced."""

import importlib
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from diffexplain_fast.environment import without_usage_reports
from diffexplain_fast.errors import callers_level, describe, first_line, wrong_type, wrong_value
from diffexplain_fast.runs.ray_clusters import joined, places_of

_TRIES = 3
"""How often a unit is begun whose worker dies, and how often a worker that dies as it begins."""
_PAUSE = 20.0
"""Seconds without any worker after which it is said that all places are taken."""


@dataclass(frozen=True)
class RayWorkers:
    """Where workers run, and how each of them gets its pipeline.

    Ray sends objects between processes by pickle, so use only machines and networks that you trust.

    Args:
        address: "auto" for the cluster that `ray start` began on this machine or, without one, for this machine alone;
            or the address of a cluster, such as "ray://head:10001" or "head:6379". In a process that has joined a
            cluster, "auto" is that one, and the address of another one is refused.
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
    """A process of Ray, in which a worker begins when it is told to.

    The worker does not begin in the constructor, so that its own error comes back as it is, and what dies is told from
    what fails.
    """

    _worker: Worker

    def placed(self) -> None:
        """Return: the process runs."""

    def begin(self, kept: list[object]) -> None:
        """Make the worker.

        Args:
            kept: reference to the class of the worker and its arguments.
        """
        worker, arguments = importlib.import_module("ray").get(kept[0])
        self._worker = worker(*arguments)

    def make(self, *unit: object) -> bytes:
        """Return the content of a unit."""
        return self._worker.make(*unit)


class _Method(Protocol):
    def remote(self, *arguments: object) -> object: ...


class Remote(Protocol):
    """A worker as the caller sees it."""

    @property
    def placed(self) -> _Method: ...

    @property
    def begin(self) -> _Method: ...

    @property
    def make(self) -> _Method: ...


class Actors:
    """Workers in processes of Ray, until the ``with`` block ends.

    There are as many as the nodes of the cluster hold, each of them whole on one node. One for which there is no free
    place takes part as soon as it has one.

    Args:
        address: see ``RayWorkers``.
        worker: class of the workers.
        arguments: with which each of them is made.
        gpu: whether a worker needs a GPU: then there is one for each of them.
        threads: processors of a worker without a GPU; fewer are taken where no node has so many.

    Raises:
        ImportError: Ray is not installed; names the extra.
        ValueError: no cluster at the address, or Ray runs here with another one; no node with a GPU where workers need
            one, or none with a processor.
    """

    def __init__(
        self, address: str, worker: Callable[..., Worker], arguments: tuple[object, ...], gpu: bool, threads: int
    ) -> None:
        self._ray = _imported()
        self._joined = joined(self._ray, address)
        self._begun, self._starting = list[Remote](), dict[object, tuple[Remote, object]]()
        self._deaths, self._told = 0, False
        try:
            self._places = places_of(self._ray, gpu, threads)
            self._process = self._ray.remote(**self._places.options())(_Process)
            self._kept = self._ray.put((worker, arguments))
            for _ in range(self._places.count):
                self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Actors":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and Ray where it was begun here."""
        for worker in [*self._begun, *(worker for worker, _ in self._starting.values())]:
            self._ray.kill(worker)
        if self._joined:
            self._ray.shutdown()

    def made(self, units: Mapping[str, tuple[object, ...]]) -> Iterator[tuple[str, bytes]]:
        """Yield key and content of units as they are made.

        Warns where it waits for a free place, because no worker has one.

        Args:
            units: key to the arguments of ``Worker.make``.

        Raises:
            Exception: what a worker raised while it made a unit.
            ValueError: a unit whose workers died three times; a worker that raised an error as it began, which the
                message names, or three that died as they began; the nodes that could hold workers are gone.
        """
        waiting, idle, tries = deque(units), deque(self._begun), Counter[str]()
        running: dict[object, tuple[str, Remote]] = {}
        while waiting or running:
            while waiting and idle:
                key, worker = waiting.popleft(), idle.popleft()
                tries[key] += 1
                running[worker.make.remote(*units[key])] = key, worker
            done = self._first([*running])
            if done in self._starting:
                idle.extend(self._begins(done))
                continue
            key, worker = running.pop(done)
            try:
                content = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise getattr(error, "cause", None) or error from None
            except self._ray.exceptions.RayError as error:
                if tries[key] >= _TRIES:
                    got = f"{key}, whose workers died {_TRIES} times: {error}"
                    raise wrong_value("ray", "workers that make every unit", got) from error
                self._begun.remove(worker)
                self._ray.kill(worker)
                self._start()
                waiting.append(key)
            else:
                yield key, content
                idle.append(worker)

    def _start(self) -> None:
        worker: Remote = self._process.remote()
        placed = worker.placed.remote()
        self._starting[worker.begin.remote([self._kept])] = worker, placed

    def _first(self, running: list[object]) -> object:
        """Return what is done first, of workers that begin and units that are being made."""
        while True:
            pause = None if running else _PAUSE
            done, _ = self._ray.wait([*self._starting, *running], num_returns=1, timeout=pause)
            if done:
                return done[0]
            placed, _ = self._ray.wait([placed for _, placed in self._starting.values()], num_returns=1, timeout=0)
            if placed:
                continue  # it begins, which may take long
            self._places.check_there(self._ray)
            if not self._told:
                self._told = True
                what = describe("ray", f"{self._places.wanted} for a worker", "none that is free: waiting for one")
                warnings.warn(what, RuntimeWarning, stacklevel=callers_level())

    def _begins(self, done: object) -> list[Remote]:
        """Return the worker that has begun, or none if it has died."""
        worker, _ = self._starting.pop(done)
        try:
            self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:
            self._ray.kill(worker)
            cause = getattr(error, "cause", None) or error
            raise wrong_value("ray", "workers that can begin", f"one with {first_line(cause)}") from cause
        except self._ray.exceptions.RayError as error:
            self._ray.kill(worker)
            self._deaths += 1
            failed = getattr(error, "actor_init_failed", False)  # the package itself cannot be imported there
            if failed or (self._deaths >= _TRIES and not self._begun):
                got = str(error) if failed else f"{_TRIES} that died: {error}"
                raise wrong_value("ray", "workers that can begin", got) from error
            if self._deaths < _TRIES:
                self._start()
            return []
        self._deaths = 0
        self._begun.append(worker)
        return [worker]


def _imported() -> ModuleType:
    without_usage_reports()
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError('ray= needs Ray: pip install "diffexplain-fast[ray]"') from error
