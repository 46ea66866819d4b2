"""What the tests of the ops share beside their contract."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.register_assert_rewrite("tests.ops.contract")


@pytest.fixture
def poisoned_memory(poisoned_empty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill fresh memory with NaN, that of ``new_empty`` as well."""

    def nan(self: Tensor, *args: Any, _real: Any = Tensor.new_empty, **options: Any) -> Tensor:
        made = _real(self, *args, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", nan)


_SHARED = "mean and rstd of kernels/fused/group_norm_silu.py share a storage"
_REPORTED = {("test_opcheck", "triton", "TestGroupNormSilu"): _SHARED}
"""Test, implementation and class to what is wrong in a kernel: an entry goes with its bug."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failures that are reported and not mended yet."""
    for item in items:
        for (test, impl, owner), reason in _REPORTED.items():
            if item.name.startswith(f"{test}[") and impl in item.name and f"::{owner}::" in item.nodeid:
                item.add_marker(pytest.mark.xfail(reason=reason))
