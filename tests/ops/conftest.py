"""What the tests of the ops share beside their contract."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.register_assert_rewrite("tests.ops.contract", "tests.ops.normalisation")


@pytest.fixture
def poisoned_memory(poisoned_empty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill fresh memory with NaN, that of ``new_empty`` as well."""

    def nan(self: Tensor, *args: Any, _real: Any = Tensor.new_empty, **options: Any) -> Tensor:
        made = _real(self, *args, **options)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", nan)
