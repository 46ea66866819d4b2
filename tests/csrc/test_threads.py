"""The compiled kernels give the same bits for any number of threads."""

from collections.abc import Iterator

import pytest
import torch

from diffexplain_fast.ops._load import CPP_MISSING
from tests.csrc.every_op import DTYPES, results

pytestmark = pytest.mark.skipif(bool(CPP_MISSING), reason=CPP_MISSING)


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_threads_gives_equal_bits(threads_restored: None, dtype: torch.dtype) -> None:
    """With two images, one thread gets both, two threads get one each, and three threads get parts of both."""
    by_threads = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        by_threads.append(
            results(dtype, side=33, channels=34)
        )  # more than the share of one thread, and not a multiple of it
    one, *others = by_threads
    for other in others:
        for name, tensors in one.items():
            for i, (a, b) in enumerate(zip(tensors, other[name], strict=True)):
                assert torch.equal(a, b), f"{name}, result {i}"
