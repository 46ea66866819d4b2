"""Which cluster of Ray a process joins, and how many workers its nodes or its placement group hold."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffexplain_fast.runs.ray_clusters import joined, places_of

HERE, THERE = "192.0.2.7", "198.51.100.9"


def cluster(*nodes: dict[str, float], bundles: list[dict[str, float]] | None = None, at: str = f"{HERE}:6379") -> Any:
    """Return what is asked of Ray in a process that has joined a cluster.

    Args:
        nodes: resources of each.
        bundles: of the placement group of the process.
        at: address of the cluster.
    """
    group = None if bundles is None else SimpleNamespace(bundle_specs=bundles)
    context = SimpleNamespace(should_capture_child_tasks_in_placement_group=group is not None, gcs_address=at)
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return SimpleNamespace(
        is_initialized=lambda: True,
        nodes=lambda: [dead, *({"Alive": True, "Resources": node} for node in nodes)],
        get_runtime_context=lambda: context,
        util=SimpleNamespace(get_current_placement_group=lambda: group, get_node_ip_address=lambda: HERE),
    )


@pytest.mark.parametrize(
    ("nodes", "gpu", "threads", "count", "need"),
    [
        ([{"CPU": 1}, {"CPU": 1}], False, 2, 2, 1),  # two processors, but no node has both
        ([{"CPU": 4}, {"CPU": 3}], False, 2, 3, 2),
        ([{"CPU": 8}, {"CPU": 2}], False, 8, 1, 8),
        ([{"CPU": 0.5}], False, 2, 1, 0.5),
        ([{}, {"CPU": 2}], False, 1, 2, 1),  # a head with --num-cpus 0
        ([{"CPU": 1, "GPU": 2}, {"GPU": 1.5}, {"CPU": 9}], True, 4, 3, 1),
    ],
)
def test_a_worker_is_counted_where_one_node_holds_it(
    nodes: list[dict[str, float]], gpu: bool, threads: int, count: int, need: float
) -> None:
    places = places_of(cluster(*nodes), gpu, threads)
    assert (places.count, places.need) == (count, need)
    amounts = {"num_gpus": 1, "num_cpus": 0} if gpu else {"num_cpus": need}
    assert places.options() == {**amounts, "scheduling_strategy": "DEFAULT"}
    places.check_there(cluster(*nodes))
    with pytest.raises(ValueError, match=r"ray: wanted a cluster with .* of one node for a worker, got 0 at most"):
        places.check_there(cluster({"CPU": 0, "GPU": 0}))


def test_a_cluster_that_can_never_hold_a_worker_is_refused() -> None:
    for nodes in ([{}], [{"CPU": 0}], []):
        with pytest.raises(ValueError, match=r"ray: wanted a cluster with processors for workers .*, got none"):
            places_of(cluster(*nodes), False, 1)
    with pytest.raises(ValueError, match="ray: wanted a cluster with GPUs, because the pipeline is on one, got none"):
        places_of(cluster({"CPU": 4, "GPU": 0.5}), True, 1)


def test_workers_of_a_trial_are_in_its_placement_group_where_that_has_room_beside_the_trial() -> None:
    node = {"CPU": 8.0}
    alone = places_of(cluster(node, bundles=[{"CPU": 1}]), False, 1)
    assert (alone.count, alone.group) == (8, None), "it would wait for the processor of the trial itself"
    assert places_of(cluster(node, bundles=[{"CPU": 8}, {"CPU": 1}]), False, 2).group is None
    together = places_of(cluster(node, bundles=[{"CPU": 1}, {"CPU": 1}, {"CPU": 2}]), False, 1)
    assert together.count == 3 and together.group is not None


@pytest.mark.parametrize("address", ["auto", f"{HERE}:6379", "127.0.0.1:6379", "localhost:6379", f"ray://{HERE}:10001"])
def test_a_cluster_that_is_joined_already_is_taken_by_its_addresses(address: str) -> None:
    assert not joined(cluster(), address), "what was there before is not left"


@pytest.mark.parametrize("address", ["127.0.0.1:1", f"{THERE}:6379", f"ray://{THERE}:10001", "local", "[::1]:1"])
def test_another_address_than_that_of_the_joined_cluster_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"has joined, {HERE}:6379, got ") as refused:
        joined(cluster(), address)
    assert address in str(refused.value)


def test_auto_never_joins_the_cluster_that_another_process_holds_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    begun: list[str] = []
    ray: Any = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **options: begun.append(address))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("", 0)) as server:
        others = {f"127.0.0.1:{server.getsockname()[1]}"}
        monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: others)
        assert joined(ray, "auto") and begun == ["local"], "it would end with the other process"


@pytest.mark.parametrize("running", [True, False])
def test_auto_is_the_last_cluster_of_this_machine_only_while_that_answers(
    running: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: set())
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    begun: list[str] = []
    ray: Any = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **options: begun.append(address))
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        if running:
            assert joined(ray, "auto") and [one.rpartition(":")[2] for one in begun] == [str(port)]
    if not running:  # the cluster was killed, and its address is left
        assert joined(ray, "auto") and begun == ["local"]
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(ValueError, match=f"ray: wanted the address .*, got 127.0.0.1:{port} in RAY_ADDRESS: "):
            joined(ray, "auto")
