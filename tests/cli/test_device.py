"""A device that does not exist is refused by name, and the message names those that do."""

import pytest
import torch

from diffexplain_fast.cli.device import chosen_device
from diffexplain_fast.environment import default_device


def test_the_default_device_is_the_gpu_if_there_is_one() -> None:
    assert chosen_device(None) == default_device()
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
def test_gpus_are_accepted_by_number() -> None:
    assert chosen_device("cuda") == torch.device("cuda") and chosen_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize("name", ["gpu", "", "1", "meta", "mps", "cuda:99", "cuda:-1"])
def test_a_name_that_is_not_a_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^--device: wanted 'cpu'.*, got '{name}'$"):
        chosen_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'cpu' \(this torch, .*(without CUDA|finds no GPU)\), got 'cuda'"):
        chosen_device("cuda")
