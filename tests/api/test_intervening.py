"""Interventions in an audit: with own pictures, with those of the pool, and without drawing anything."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.api.intervening import Intervening, own_size
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit import Audit
from tests.auditing import quick_audit
from tests.tiny import LABELS, tiny_classifier, tiny_sd


def marked(picture: Tensor) -> Tensor:
    """Paint the upper left corner white."""
    picture[:, :4, :4] = 1
    return picture


PIXELS = torch.rand(16, 3, 20, 12, generator=torch.Generator().manual_seed(0))


def only(**options: object) -> Audit:
    """Return an audit that draws nothing."""
    with Explainer(load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        return explainer.audit(pictures=0, interventions={"mark": marked}, **options)  # type: ignore[arg-type]


def test_nothing_is_drawn_for_own_pictures_and_interventions_only(tmp_path: Path) -> None:
    audit = only(images=PIXELS, clusters=[i // 2 for i in range(16)])
    assert [row.concept for row in audit.rows if row.target == "fish"] == [
        "intervention:mark", "placebo:mark, mirrored", "placebo:mark, blank"
    ]  # fmt: skip
    assert audit.settings["pictures"] == 0 and audit.settings["own_pictures"] == 16
    found = Audit.load(audit.save(tmp_path / "audit"))
    assert found.rows == audit.rows and set(audit.settings["placebos_flagged"]) == {"mark, mirrored", "mark, blank"}
    assert "16 own pictures" in audit.report(tmp_path / "audit.html").read_text()
    assert audit.decide("findings>0")[0].value == len(audit.findings)
    for ask in (lambda: audit.units("layer2"), lambda: audit.directions("layer2", 1)):
        with pytest.raises(ValueError, match=r"wanted an audit of this session, .* that drew no pictures"):
            ask()


def test_pictures_keep_their_size_where_all_have_the_same() -> None:
    pipeline = load_pipeline(tiny_sd())
    assert own_size(PIXELS, pipeline).shape[2:] == (20, 12)
    assert own_size([Image.new("RGB", (12, 20))] * 2, pipeline).shape[2:] == (20, 12)
    mixed = own_size([Image.new("RGB", (12, 20)), Image.new("RGB", (9, 9))], pipeline)
    assert tuple(mixed.shape[2:]) == pipeline.image_size
    assert own_size(Image.new("RGB", (12, 20)), pipeline).shape[2:] == (20, 12)


def test_a_picture_that_a_camera_has_turned_is_kept_whole(tmp_path: Path) -> None:
    picture, turned = Image.new("RGB", (80, 40), "red"), Image.Exif()
    picture.paste((0, 0, 255), (0, 0, 20, 40))
    turned[0x0112] = 6
    picture.save(tmp_path / "0.png", exif=turned)
    found = own_size(tmp_path, load_pipeline(tiny_sd()))
    assert found.shape[2:] == (80, 40)
    assert float((found[0, 2] > 0.5).float().mean()) == 0.25


def test_interventions_are_tested_as_the_audit_asks() -> None:
    def p_values(control: str) -> np.ndarray:
        audit = only(images=PIXELS, control=control, minimal_effect=0.0)
        return np.array([row.adjusted_p for row in audit.rows if row.concept == "intervention:mark"])

    rate, family = p_values("fdr"), p_values("family")
    assert (family >= rate).all() and (family > rate).any()


def test_pictures_of_the_pool_are_taken_where_there_are_no_own_ones(tmp_path: Path) -> None:
    audit = quick_audit(tmp_path, interventions={"mark": marked})
    rows = [row for row in audit.rows if row.concept.startswith(("intervention", "placebo"))]
    assert len(rows) == 3 * 4 and all(row.pictures == 24 for row in rows)
    difference = audit.diff(audit)  # rows of interventions are of no trial
    assert len(difference.rows) == 16 and np.allclose([row.effect for row in difference.rows], 0)


def test_own_pictures_are_a_folder_too(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (12, 20), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    assert only(images=tmp_path).settings["own_pictures"] == 4
    assert own_size(str(tmp_path), load_pipeline(tiny_sd())).shape[2:] == (20, 12)


UNUSED = {"explain": True, "labels": ["fish"] * 16, "weights": {"background": {"desert": 0.5}}, "redraw": 1}


@pytest.mark.parametrize("name", UNUSED)
def test_options_of_generated_pictures_are_refused_where_nothing_is_drawn(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: wanted nothing where pictures is 0"):
        only(images=PIXELS, **{name: UNUSED[name]})


def test_what_is_missing_or_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="pictures: wanted images and interventions where pictures is 0"):
        only()
    with pytest.raises(ValueError, match="clusters: wanted 16, one for every picture"):
        only(images=PIXELS, clusters=[1, 2])
    with pytest.raises(ValueError, match="clusters: wanted at least two clusters"):
        only(images=PIXELS, clusters=[1] * 16)
    with pytest.raises(TypeError, match="clusters: wanted a name or number"):
        only(images=PIXELS, clusters="photographs")


@pytest.mark.parametrize("make", [np.array, torch.tensor, tuple, list], ids=["array", "tensor", "tuple", "list"])
def test_clusters_may_be_an_array_or_a_tensor(make: Callable[[list[int]], object]) -> None:
    assert Intervening.of(None, make([7, 7, 3, 3])).clusters.tolist() == [1, 1, 0, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("clusters", [np.zeros((4, 1)), torch.tensor(1), np.float64(3), "abcd", 4], ids=repr)
def test_clusters_of_another_shape_are_refused(clusters: object) -> None:
    with pytest.raises(TypeError, match="clusters: wanted a name or number for every picture"):
        Intervening.of(None, clusters)


@pytest.mark.parametrize("labels", [np.array(["fish"] * 16), np.array("fish"), torch.tensor(0)], ids=repr)
def test_an_array_of_labels_is_refused_by_its_name_where_nothing_is_drawn(labels: object) -> None:
    with pytest.raises(ValueError, match="labels: wanted nothing where pictures is 0"):
        only(images=PIXELS, labels=labels)


def test_weights_count_in_interventions_on_pictures_of_the_pool(tmp_path: Path) -> None:
    shares = {"background": {"desert": 0.8}}
    plain, audit = (
        quick_audit(tmp_path, pictures=96, interventions={"mark": marked}, weights=given) for given in (None, shares)
    )
    weights, hits = audit.outcomes["weights"], audit.outcomes["hits"]
    for place, target in enumerate(audit.settings["targets"]):
        one, other = (
            next(row for row in some.rows if (row.target, row.concept) == (target, "intervention:mark"))
            for some in (audit, plain)
        )
        assert one.answered_without == pytest.approx(np.average(hits[:, place], weights=weights))
        assert other.answered_without == pytest.approx(hits[:, place].mean())
        assert one.effect != other.effect and (one.low, one.high) != (other.low, other.high)
