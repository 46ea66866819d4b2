"""Clusters of Ray: which one a process joins, and how many workers its nodes hold."""

import importlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from diffexplain_fast.environment import ray_address
from diffexplain_fast.errors import wrong_value

_PATIENCE = 10.0
"""Seconds in which a cluster has to answer."""


@dataclass(frozen=True)
class Places:
    """Where workers fit.

    Attributes:
        count: workers that fit if nothing else runs.
        resource: "GPU" or "CPU".
        need: how much of it a worker takes.
        group: placement group of Ray in which the workers are placed; None for all nodes.
    """

    count: int
    resource: str
    need: float
    group: object | None

    @property
    def wanted(self) -> str:
        """What a worker needs, as messages call it."""
        return f"{self.need:g} {'GPU' if self.resource == 'GPU' else 'processors (num_cpus)'} of one node"

    def options(self) -> dict[str, object]:
        """Return the options of ``ray.remote`` for a worker.

        A worker takes nothing beside its resource, and is only in a placement group that has room for it: otherwise
        Ray would put it into that of the caller, where it could wait for ever.
        """
        strategy: object = "DEFAULT"
        if self.group is not None:
            strategies = importlib.import_module("ray.util.scheduling_strategies")
            strategy = strategies.PlacementGroupSchedulingStrategy(self.group)
        amounts = {"num_gpus": self.need, "num_cpus": 0} if self.resource == "GPU" else {"num_cpus": self.need}
        return {**amounts, "scheduling_strategy": strategy}

    def check_there(self, ray: ModuleType) -> None:
        """Refuse to wait for a place that no node has any more.

        Raises:
            ValueError: see above; says what is wanted, and the most that a node has.
        """
        rooms = _nodes(ray) if self.group is None else _bundles(self.group)
        if not _fitting(rooms, self.resource, self.need):
            got = f"{max((_amount(room, self.resource) for room in rooms), default=0):g} at most"
            raise wrong_value("ray", f"a cluster with {self.wanted} for a worker", got)


def places_of(ray: ModuleType, gpu: bool, threads: int) -> Places:
    """Return where the workers of a process fit: in its placement group, if that is for more than itself, or on nodes.

    Args:
        ray: the library, which has joined a cluster.
        gpu: whether a worker needs a GPU.
        threads: processors of a worker without a GPU; fewer are taken where no node has so many.

    Raises:
        ValueError: no node with a GPU where workers need one, or none with a processor.
    """
    resource, wanted = ("GPU", 1.0) if gpu else ("CPU", float(max(threads, 1)))
    group = _own_group(ray)
    if group is not None and (count := _fitting(_bundles(group), resource, wanted)):
        return Places(count, resource, wanted, group)
    nodes = _nodes(ray)
    largest = max((_amount(node, resource) for node in nodes), default=0.0)
    need = min(wanted, largest // 1 or largest)  # Ray takes parts of a processor only below one
    if need <= 0 or (gpu and need < 1):
        with_it = "GPUs, because the pipeline is on one" if gpu else "processors for workers (num_cpus of a node)"
        raise wrong_value("ray", f"a cluster with {with_it}", "none")
    return Places(_fitting(nodes, resource, need), resource, need, None)


def joined(ray: ModuleType, address: str) -> bool:
    """Join a cluster, or begin one on this machine; return whether it was joined here and is to be left again.

    Args:
        ray: the library.
        address: see ``RayWorkers``.

    Raises:
        ValueError: nobody answers at the address, or this process has already joined another cluster.
    """
    if ray.is_initialized():
        _check_same(ray, address)
        return False
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    named = found = ray_address() or address if address == "auto" else address
    try:
        if named == "auto":
            # The cluster of `ray start`, if any; that which another process holds for itself ends with that process.
            found = importlib.import_module("ray._private.services").canonicalize_bootstrap_address(None) or "local"
        _check_answers(found)  # of a cluster that has ended, Ray may still know the address
        ray.init(address=found, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if named != "auto":
            given = named if named == address else f"{named} in RAY_ADDRESS"
            raise wrong_value("ray", "the address of a running cluster", f"{given}: {error}") from error
        ray.init(address="local", include_dashboard=False, **quiet)
    return True


def _nodes(ray: ModuleType) -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _own_group(ray: ModuleType) -> object | None:
    """Return the placement group of this process if what it begins belongs there, as in a trial of Ray Tune."""
    context = ray.get_runtime_context()
    if not context.should_capture_child_tasks_in_placement_group:
        return None
    group: object | None = ray.util.get_current_placement_group()
    return group


def _bundles(group: object) -> list[Mapping[str, float]]:
    """Return what a placement group holds beside its first bundle, which is for the process itself."""
    bundles: list[Mapping[str, float]] = getattr(group, "bundle_specs", [])
    return bundles[1:]


def _amount(room: Mapping[str, float], resource: str) -> float:
    return float(room.get(resource, 0))


def _fitting(rooms: Iterable[Mapping[str, float]], resource: str, need: float) -> int:
    """Return how many workers fit, each of them whole in one room."""
    return sum(int(_amount(room, resource) // need) for room in rooms)


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody answers, for which Ray itself waits many minutes.

    Raises:
        ConnectionError: see above.
    """
    host, port = _parts(address)
    if port is None:  # "auto" and other names
        return
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(str(error)) from error


def _check_same(ray: ModuleType, address: str) -> None:
    """Refuse an address of another cluster than the one that this process has joined.

    Raises:
        ValueError: see above; names both.
    """
    running: str = ray.get_runtime_context().gcs_address
    if address in ("auto", running):
        return
    (host, port), (there, its_port) = _parts(address), _parts(running)
    # The port of a client is not that of the cluster.
    same_port = port is not None and (port == its_port or address.startswith("ray://"))
    if not (same_port and _numbers(ray, host) & _numbers(ray, there)):
        wanted = f'"auto", or the address of the cluster that this process has joined, {running}'
        raise wrong_value("ray", wanted, f"{address} (ray.shutdown() leaves the cluster)")


def _parts(address: str) -> tuple[str, int | None]:
    """Return host and port of an address, None as the port of "auto" and other names."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    return host.strip("[]"), int(port) if colon and port.isdecimal() else None


def _numbers(ray: ModuleType, host: str) -> set[str]:
    """Return the addresses of a host in numbers; this machine has those of its loopback and of its node."""
    try:
        found = {str(known[4][0]).partition("%")[0] for known in socket.getaddrinfo(host, None)}
    except OSError:
        return {host}
    here: str = ray.util.get_node_ip_address()
    local = here in found or any(ipaddress.ip_address(number).is_loopback for number in found)
    return found | {here, "127.0.0.1"} if local else found
