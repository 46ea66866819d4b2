"""Loops in Triton's interpreter: some pairs of versions refuse them, and only then tests are skipped."""

import pytest
import torch
from diffexplain_fast.kernels import attention

from tests.interpreter import REFUSAL, skipped_without_loops, why_no_loops
from tests.kernels.harness import DEVICE

interpreted = pytest.mark.skipif(DEVICE.type != "cpu", reason="compiled kernels run here")


@interpreted
@pytest.mark.parametrize(
    ("triton", "numpy", "refused"),
    [
        ("3.6.0", "2.5.2", True),
        ("3.6.0", "2.4.0rc1", True),
        ("3.6.0", "2.3.5", False),
        ("3.7.1", "2.5.2", False),
        ("3.10.0", "2.5.2", False),
    ],
)
def test_numpy_and_triton_versions_that_refuse_loops_together_are_known(triton: str, numpy: str, refused: bool) -> None:
    said = why_no_loops(triton, numpy)
    assert (f"Triton {triton} " in said and f"numpy {numpy}" in said) if refused else said == ""


@interpreted
def test_the_installed_versions_behave_as_expected() -> None:
    q, k, v = torch.randn(3, 1, 40, 1, 8)
    if why_no_loops():
        with pytest.raises(Exception, match=REFUSAL):
            attention.attention_fwd(q, k, v, 0.5)
    else:
        assert attention.attention_fwd(q, k, v, 0.5)[0].isfinite().all()


def test_only_the_known_refusal_skips_a_test() -> None:
    for why, said in (("a reason", "another error"), ("", REFUSAL)):
        with pytest.raises(TypeError, match=said), skipped_without_loops(why):
            raise TypeError(said)
    with pytest.raises(pytest.skip.Exception, match="a reason"), skipped_without_loops("a reason"):
        raise TypeError(REFUSAL)
