"""What CUDA's libraries take is in the plan of a CUDA device, and in no other."""

import pytest
import torch

from diffexplain_fast.engine.memory.costs import least_limit
from diffexplain_fast.engine.memory.planner import Planning
from diffexplain_fast.engine.memory.workspaces import CUBLAS_HOPPER, CUBLAS_PAIRS, cublas_bytes, cublas_workspace
from tests.engine.fast.cases import Case, inputs_of, results, sampler_for

MIB = 2**20
CUBLAS, CUDNN = "cuBLAS's workspaces", "cuDNN's workspace, counted in steps and decoder"


@pytest.mark.parametrize(
    ("capability", "config", "wanted"),
    [
        ((9, 0), None, 32 * MIB),
        ((10, 0), None, 32 * MIB),
        ((8, 9), None, 8 * MIB + 128 * 2**10),
        ((8, 0), ":4096:8", 32 * MIB),
        ((9, 0), ":4096:2:16:8", 8 * MIB + 128 * 2**10),
        ((9, 0), "nonsense", 32 * MIB),
        ((9, 0), ":0:0", 0),
    ],
)
def test_the_size_of_a_workspace_is_torchs(capability, config, wanted):
    assert cublas_workspace(capability, config) == wanted


def test_only_a_cuda_device_has_workspaces(monkeypatch):
    assert cublas_bytes(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert cublas_bytes(torch.device("cuda")) == 128 * MIB
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2:16:8")
    assert cublas_bytes(torch.device("cuda")) == 4 * (8 * MIB + 128 * 2**10)


def plans(monkeypatch, cublas, memory=None):
    """A sampler's plan with so many bytes for cuBLAS."""
    monkeypatch.setattr("diffexplain_fast.engine.memory.planner.cublas_bytes", lambda device: cublas)
    sampler = sampler_for(Case(), "fast", torch.float32, memory=memory)
    results(sampler, inputs_of("sd15", dtype=torch.float32), ("prompt_embeds",))
    return sampler.plan


def test_workspaces_of_both_libraries_are_in_the_plan_and_shown(monkeypatch):
    without, plan = plans(monkeypatch, None), plans(monkeypatch, CUBLAS_PAIRS * CUBLAS_HOPPER)
    assert not {CUBLAS, CUDNN} & set(without.parts) and "workspace" not in str(without)
    assert plan.parts[CUBLAS] == 128 * MIB and plan.parts[CUDNN] > 0
    assert 128 * MIB < plan.peak - without.peak <= 128 * MIB + plan.parts[CUDNN]
    assert CUBLAS in str(plan) and CUDNN in str(plan)


@pytest.mark.slow
def test_a_limit_holds_with_the_workspaces(monkeypatch):
    counted, count = [], Planning._count

    def counting(self, request, fastest=False):
        counted.append((self, request))
        return count(self, request, fastest)

    monkeypatch.setattr(Planning, "_count", counting)
    free = plans(monkeypatch, 2 * MIB)
    planning, request = counted[0]
    least = {cublas: least_limit(count(planning, request._replace(cublas=cublas))) for cublas in (None, 0, 2 * MIB)}
    assert least[None] < least[0] < least[2 * MIB] == least[0] + 2 * MIB
    full = count(planning, request._replace(cublas=0))
    assert all(0 < cost.workspace < cost.working for part in (*full.steps, full.heads) for cost in part.values())
    tight = plans(monkeypatch, 2 * MIB, memory=least[2 * MIB])
    assert tight.peak <= least[2 * MIB] < free.peak and tight.levels != free.levels
    with pytest.raises(ValueError, match="memory: wanted at least"):
        plans(monkeypatch, 2 * MIB, memory=least[0])
