"""The arithmetic of what an audit costs, and the classifier of many outputs that it is measured with."""

import pytest
import torch

import diffexplain_fast as dx
from benchmarks.discovery.cost import Round, summary, with_outputs


def test_more_outputs_cost_the_difference_on_kept_pictures_beside_the_pictures() -> None:
    slow = Round(new=60.0, kept=(5.0, 7.0), many=12.0, four=20.0, four_kept=6.0, speed=(100.0, 120.0))
    usual = Round(new=50.0, kept=(5.0, 5.0), many=10.0, four=25.0, four_kept=5.0, speed=(150.0, 150.0))
    figures = summary([slow, usual, usual])
    assert figures["eight steps, new pictures"] == 50
    assert figures["eight steps, kept pictures"] == 5
    assert figures["four steps, new pictures"] == 25
    assert figures["1000 outputs over 8, new pictures"] == pytest.approx(55 / 50)
    assert figures["1000 outputs over 8, new pictures of four steps"] == pytest.approx(30 / 25)
    assert figures["1000 outputs over 8, kept pictures"] == 2
    assert summary([slow])["eight steps, kept pictures"] == 6
    assert summary([slow])["1000 outputs over 8, new pictures"] == pytest.approx(66 / 60)
    assert summary([slow])["matrix product, GFLOP/s"] == 110


def test_the_first_of_many_outputs_are_those_of_the_classifier() -> None:
    eight = dx.Classifier.from_pretrained("tinyworld/clean")
    many, pixels = with_outputs(eight, 20), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, every = eight(pixels), many(pixels)
    assert every.shape == (2, 20) and torch.allclose(every[:, :8], own, atol=1e-5)
    assert list(many.labels)[:8] == list(eight.labels) and len(set(many.labels)) == 20
    assert torch.linalg.matrix_rank(every[:, 8:]) == 2  # the mixtures tell pictures apart
