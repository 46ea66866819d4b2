"""Workers of Ray: units that are made once each, workers that die, workers that fail, and Ray that is not there."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from diffexplain_fast.runs import ray_workers
from diffexplain_fast.runs.ray_workers import Actors, RayWorkers

QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
UNITS = {f"unit-{i}": (i,) for i in range(6)}


class Doubling:
    """A worker that doubles numbers; it dies at number 3 as often as it is told, and fails at number 4.

    Args:
        folder: holds a file for each death.
        deaths: how often it dies.
        fails: whether it fails.
    """

    def __init__(self, folder: str, deaths: int, fails: bool) -> None:
        self.folder, self.deaths, self.fails = Path(folder), deaths, fails

    def make(self, *unit: object) -> bytes:
        """Return twice the number."""
        (number,) = unit
        died = len(list(self.folder.iterdir()))
        if number == 3 and died < self.deaths:
            (self.folder / f"{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 4 and self.fails:
            raise ArithmeticError("no double of 4")
        return str(2 * int(str(number))).encode()


class Beginning:
    """A worker that cannot begin: it dies, or raises an error.

    Args:
        log: file with a letter for each start.
        dies: whether it dies.
    """

    def __init__(self, log: str, dies: bool) -> None:
        with Path(log).open("a") as file:
            file.write("x")
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise FileNotFoundError("no pipeline here")

    def make(self, *unit: object) -> bytes:
        """Return nothing."""
        return b""


class Holder:
    """Holds a processor of the cluster."""

    def there(self) -> None:
        """Return: the process runs."""


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"ray= needs Ray: pip install .diffexplain-fast\[ray\]"):
        Actors("auto", Doubling, ("", 0, False), gpu=False, threads=1)


def test_an_address_is_a_text_and_a_pipeline_is_made_by_a_function() -> None:
    with pytest.raises(TypeError, match=r"ray: wanted .auto. or the address of a cluster, got int"):
        RayWorkers(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ray, make: wanted a function of a device"):
        RayWorkers("auto", "tinyworld")  # type: ignore[arg-type]


def test_an_address_where_nobody_answers_is_refused_at_once() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", f"[::1]:{port}", "127.0.0.1:99999"):
        began = time.monotonic()
        with pytest.raises(ValueError, match="ray: wanted the address of a running cluster, got "):
            Actors(address, Doubling, ("", 0, False), gpu=False, threads=1)
        assert time.monotonic() - began < 9


def test_a_dead_worker_is_replaced_and_its_unit_made_again(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    wanted = {key: str(2 * number).encode() for key, (number,) in UNITS.items()}
    for deaths in (1, 3):
        folder = tmp_path / str(deaths)
        folder.mkdir()
        with Actors("auto", Doubling, (str(folder), deaths, False), gpu=False, threads=1) as actors:
            if deaths < 3:
                assert dict(actors.made(UNITS)) == wanted
            else:
                with pytest.raises(ValueError, match=r"ray: wanted workers .* got unit-3, .* 3 times"):
                    dict(actors.made(UNITS))
        assert len(list(folder.iterdir())) == deaths
    with (
        Actors("auto", Doubling, (str(tmp_path / "1"), 0, True), gpu=False, threads=1) as actors,
        pytest.raises(ArithmeticError, match="no double of 4"),
    ):
        dict(actors.made(UNITS))


def test_workers_that_need_a_gpu_are_refused_without_one(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    ray.init(address="local", num_cpus=1, num_gpus=0, **QUIET)
    try:
        with pytest.raises(ValueError, match="ray: wanted a cluster with GPUs"):
            Actors("auto", Doubling, (str(tmp_path), 0, False), gpu=True, threads=1)
        assert ray.is_initialized()  # what was there before stays
    finally:
        ray.shutdown()


def test_a_worker_that_cannot_begin_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    ray.init(address="local", num_cpus=1, **QUIET)
    try:
        for dies, starts, said in (
            (False, 1, "one with FileNotFoundError: no pipeline here"),
            (True, 3, "3 that died"),
        ):
            log = tmp_path / f"{starts}"
            with (
                Actors("auto", Beginning, (str(log), dies), gpu=False, threads=1) as actors,
                pytest.raises(ValueError, match=f"ray: wanted workers that can begin, got {said}"),
            ):
                dict(actors.made(UNITS))
            assert len(log.read_text()) == starts
    finally:
        ray.shutdown()


def test_a_worker_without_a_free_place_is_waited_for_only_where_no_other_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setattr(ray_workers, "_PAUSE", 1.0)
    wanted = {key: str(2 * number).encode() for key, (number,) in UNITS.items()}
    ray.init(address="local", num_cpus=2, **QUIET)
    try:
        holders = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(2)]
        ray.get([holder.there.remote() for holder in holders])
        with Actors("auto", Doubling, (str(tmp_path), 0, False), gpu=False, threads=1) as actors:
            freeing = threading.Timer(3.0, ray.kill, [holders[0]])
            freeing.start()
            with pytest.warns(RuntimeWarning, match=r"ray: wanted 1 processors .* got none that is free: waiting"):
                assert dict(actors.made(UNITS)) == wanted, "one of two begins, and gets all units"
            freeing.join()
            assert dict(actors.made(UNITS)) == wanted
    finally:
        ray.shutdown()


def test_another_cluster_than_the_joined_one_is_refused(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    ray.init(address="local", num_cpus=1, **QUIET)
    try:
        running = ray.get_runtime_context().gcs_address
        for address in ("127.0.0.1:1", "ray://192.0.2.77:10001"):
            with pytest.raises(ValueError, match=f"ray: wanted .*{running}, got {address}"):
                Actors(address, Doubling, (str(tmp_path), 0, False), gpu=False, threads=1)
        for address in (running, f"127.0.0.1:{running.rpartition(':')[2]}"):
            Actors(address, Doubling, (str(tmp_path), 0, False), gpu=False, threads=1).close()
    finally:
        ray.shutdown()
