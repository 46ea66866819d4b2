"""The choice of a configuration with a driver, by a stand-in for Triton's autotuner."""

import inspect
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import triton
from diffexplain_fast.kernels import configs


class Tuner:
    """Records its arguments and runs nothing."""

    made: ClassVar[list["Tuner"]] = []

    def __init__(self, **options: object) -> None:
        self.options, self.calls = options, []
        Tuner.made.append(self)

    def __call__(self, kernel: object) -> "Tuner":
        return self

    def __getitem__(self, grid: object) -> object:
        return lambda **arguments: self.calls.append(arguments)


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> type[Tuner]:
    monkeypatch.setattr(Tuner, "made", [])
    monkeypatch.setattr(configs, "_AUTOTUNERS", {})
    monkeypatch.setattr(configs, "chip", lambda: "a chip")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(triton, "autotune", Tuner)
    monkeypatch.setattr(triton, "knobs", SimpleNamespace(runtime=SimpleNamespace(interpret=False)))
    return Tuner


def run(name: str, kernel: object) -> None:
    configs.launch(name, kernel, lambda _: (1,), key=("D",), h_ptr=torch.zeros(2), D=8)


def test_a_choice_is_made_once_quickly_and_kept_on_disk(tuned: type[Tuner]) -> None:
    kernel = SimpleNamespace(__name__="geglu_fwd_kernel")
    for _ in range(3):
        run("geglu", kernel)
    (tuner,) = tuned.made
    assert len(tuner.calls) == 3 and all(call["enable_fp_fusion"] is configs.FP_FUSION for call in tuner.calls)
    assert tuner.options["cache_results"] is True and tuner.options["key"] == ["D"]
    assert [choice.kwargs for choice in tuner.options["configs"]] == [c.blocks for c in configs.CONFIGS["geglu"]]
    assert tuner.options["do_bench"].keywords["warmup"] + tuner.options["do_bench"].keywords["rep"] <= 25  # ms


class Kernel:
    """A compiled kernel that records its launches."""

    __name__ = "layer_norm_fwd_kernel"

    def __init__(self) -> None:
        self.launched: list[dict[str, object]] = []

    def __getitem__(self, grid: object) -> object:
        return lambda **arguments: self.launched.append(arguments)


def test_without_a_choice_nothing_is_timed(tuned: type[Tuner]) -> None:
    kernel = Kernel()
    run("layer_norm_fwd", kernel)
    assert not tuned.made and kernel.launched[0]["num_warps"] == configs.CONFIGS["layer_norm_fwd"][0].num_warps


def test_every_chip_has_a_choice_of_its_own(tuned: type[Tuner], monkeypatch: pytest.MonkeyPatch) -> None:
    for chip in ("a chip", "another chip", "a chip"):
        monkeypatch.setattr(configs, "chip", lambda chip=chip: chip)
        run("geglu", SimpleNamespace(__name__="geglu_fwd_kernel"))
    assert [len(tuner.calls) for tuner in tuned.made] == [2, 1]


def test_every_kernel_has_a_choice_of_its_own(tuned: type[Tuner]) -> None:
    for name in ("geglu_fwd_kernel", "geglu_bwd_kernel", "geglu_fwd_kernel"):
        run("geglu", SimpleNamespace(__name__=name))
    assert [len(tuner.calls) for tuner in tuned.made] == [2, 1]


def test_no_product_is_contracted_with_a_sum() -> None:
    assert configs.FP_FUSION is False, "the interpreter proves the arithmetic without"


def test_the_installed_triton_takes_the_options() -> None:
    known = inspect.signature(triton.autotune).parameters
    assert {"configs", "key", "do_bench", "cache_results"} <= known.keys()
    assert {"warmup", "rep", "quantiles"} <= inspect.signature(triton.testing.do_bench).parameters.keys()
