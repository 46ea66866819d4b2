"""The rule that chooses an implementation: a requested one runs or says why not; auto always runs."""

import importlib.util

import pytest
import torch

from diffexplain_fast.ops import _impl, geglu, implementations
from diffexplain_fast.ops._impl import OFFERED, Choice, choose
from diffexplain_fast.ops.doctor import kernel_status

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
UNBUILT = "was not built; build it: pip install"


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be a machine without compiled libraries and without the interpreter."""
    for name in ("CPP_MISSING", "CUDA_MISSING"):
        monkeypatch.setattr(_impl, name, UNBUILT)
    monkeypatch.setattr(_impl, "TRITON_MISSING", "")
    monkeypatch.setattr(_impl, "interpreted", lambda: False)
    monkeypatch.setattr(_impl, "triton_failure", lambda device: "")


@pytest.mark.parametrize("op", OFFERED)
def test_unknown_names_are_answered_with_the_known_ones(op: str) -> None:
    with pytest.raises(ValueError, match=r"^impl: wanted one of .*, got 'fastest'$") as caught:
        choose(op, "fastest", CPU, torch.float32)
    assert all(repr(name) in str(caught.value) for name in ("auto", "reference", *OFFERED[op]))


@pytest.mark.parametrize(
    ("impl", "device", "dtype", "reason", "remedy"),
    [
        ("cpp", CPU, torch.float32, "was not built", "pip install"),
        ("cuda", CUDA, torch.float32, "was not built", "pip install"),
        ("triton", CPU, torch.float32, "tensors on a CUDA device", "move them there"),
        ("cudnn", CPU, torch.float16, "tensors on a CUDA device", "move them there"),
        ("cudnn", CUDA, torch.float32, "float16 and bfloat16", "take 'sdpa'"),
        ("cuda", CPU, torch.float32, "tensors on a CUDA device", "move them there"),
        ("triton", CUDA, torch.float64, "float32, float16 and bfloat16", "not in torch.float64"),
        ("cuda", CUDA, torch.float64, "float32, float16 and bfloat16", "not in torch.float64"),
    ],
)
def test_an_implementation_that_cannot_run_says_why_and_names_the_remedy(
    impl: str, device: torch.device, dtype: torch.dtype, reason: str, remedy: str
) -> None:
    for op in (op for op in OFFERED if impl in OFFERED[op]):
        with pytest.raises(ValueError, match=f"^impl: wanted an implementation of {op} .*, got '{impl}': ") as caught:
            choose(op, impl, device, dtype)
        assert reason in str(caught.value) and remedy in str(caught.value)


def test_compiled_kernels_refuse_tensors_of_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "CPP_MISSING", "")
    with pytest.raises(ValueError, match="needs tensors on the CPU; move them there"):
        choose("geglu", "cpp", CUDA, torch.float32)
    assert choose("geglu", "cpp", CPU, torch.float64) == Choice("cpp", "asked for")


@pytest.mark.parametrize("missing", ["triton", "xformers"])
def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(_impl, "TRITON_MISSING", "triton is not installed; pip install triton")
    if missing == "xformers" and importlib.util.find_spec("xformers"):
        pytest.skip("xformers is installed")
    with pytest.raises(ValueError, match=f"{missing} is not installed; pip install {missing}"):
        choose("attention", missing, CUDA, torch.float16)


@pytest.mark.parametrize("op", OFFERED)
def test_auto_falls_back_and_says_why(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impl, reason = choose(op, "auto", CPU, torch.float32)
    if op == "attention":
        assert impl == "sdpa" and reason.startswith("auto: ")
    else:
        assert impl == "reference" and all(f"{name}: " in reason for name in OFFERED[op])
    assert choose(op, "reference", CPU, torch.float32) == Choice("reference", "asked for")
    assert choose(op, "auto", CUDA, torch.float16).impl == "triton"
    assert "xformers" not in reason, "only by name"
    assert "cudnn" not in reason, "the sizes decide about it"
    assert choose(op, "auto", CUDA, torch.float64).impl == ("sdpa" if op == "attention" else "reference")
    monkeypatch.setattr(_impl, "CUDA_MISSING", "")
    assert choose(op, "auto", CUDA, torch.float16).impl == "triton", "CUDA is asked for by name, where Triton is there"
    monkeypatch.setattr(_impl, "CPP_MISSING", "")
    assert choose(op, "auto", CPU, torch.float32).impl == ("cpp" if "cpp" in OFFERED[op] else "sdpa")


def test_the_interpreter_runs_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "interpreted", lambda: True)
    assert choose("geglu", "auto", CPU, torch.float32).impl == "reference"
    assert choose("geglu", "triton", CPU, torch.float32) == Choice("triton", "asked for")


def test_ops_raise_the_refusal_of_an_implementation() -> None:
    with pytest.raises(ValueError, match=f"'cpp': {UNBUILT}"):
        geglu(torch.ones(1, 2), impl="cpp")
    assert geglu(torch.ones(0, 2), impl="cpp").shape == (0, 1)


def test_doctor_sees_every_op_and_every_kind_of_kernel() -> None:
    rows = {row["op"]: row for row in implementations()}
    assert set(OFFERED) < set(rows) and len(rows) == len(implementations())
    assert all(row["implementation"] and row["reason"] for row in rows.values())
    assert all(kernel_status().values()) and len(kernel_status()) == 3


needs_interpreter = pytest.mark.skipif(
    not importlib.util.find_spec("triton") or torch.cuda.is_available(), reason="needs Triton's interpreter"
)
TRIED = _impl.triton_failure.__wrapped__


@needs_interpreter
def test_triton_is_tried_before_auto_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffexplain_fast.kernels import geglu as kernels

    assert TRIED("cpu") == ""

    def broken(h: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("failed to find a C compiler\nand more")

    monkeypatch.setattr(kernels, "geglu_fwd", broken)
    assert TRIED("cpu") == "its kernels do not run here: RuntimeError: failed to find a C compiler"
    monkeypatch.setattr(kernels, "geglu_fwd", lambda h: h[:, :4] * 0)
    assert TRIED("cpu") == "its kernels compute wrong results here"


def test_auto_falls_back_where_triton_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "triton_failure", lambda device: "its kernels do not run here: a reason")
    chosen = choose("geglu", "auto", CUDA, torch.float16)
    assert chosen.impl == "reference" and "triton: its kernels do not run here: a reason" in chosen.reason
    assert choose("geglu", "triton", CUDA, torch.float16).impl == "triton"
