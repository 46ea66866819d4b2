"""``diffexplain-fast doctor`` says what is missing where it is asked for, and no more than once."""

import pytest

from diffexplain_fast.environment import default_device
from tests.cli.running import run


def test_doctor_says_once_why_kernels_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "_C_cpu was not built: g++ was not found; install a C++ compiler, and the next use compiles it"
    for place in ("ops._impl", "ops.doctor"):
        monkeypatch.setattr(f"diffexplain_fast.{place}.CPP_MISSING", missing)
    code, text = run("doctor")
    assert code == 0 and text.count(missing) == 1 and "geglu" in text
    monkeypatch.setattr("diffexplain_fast.ops._impl.interpreted", lambda: False)
    if default_device().type == "cpu":
        assert "cpp: see C++ kernels" in run("doctor")[1]
