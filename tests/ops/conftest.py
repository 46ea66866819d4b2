"""Fixtures that the tests of the ops share, in addition to their contract."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.register_assert_rewrite("tests.ops.contract", "tests.ops.normalisation")


@pytest.fixture
def poisoned_memory(poisoned_empty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new memory with NaN, also that of ``new_empty``."""

    def nan(self: Tensor, *args: Any, _real: Any = Tensor.new_empty, **options: Any) -> Tensor:
        made = _real(self, *args, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", nan)
