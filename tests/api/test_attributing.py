"""An audit's findings on own pictures: the short ways to edit them, and what is compared."""

from dataclasses import replace
from pathlib import Path

import pytest

import diffexplain_fast as dx
from diffexplain_fast.models.loading import load_pipeline
from tests.auditing import QUICK, TINY_GROUPS
from tests.methods.diffex.worlds import pictures
from tests.tiny import LABELS, tiny_classifier, tiny_sd


def test_an_audit_is_edited_on_own_pictures_and_compared_with_them(tmp_path: Path) -> None:
    group, values = next((name, values) for name, values in TINY_GROUPS.items() if name != "object")
    first, second = values[:2]
    given = {"captions": [f"a boat on {second}"] * 2, "beam_width": 1}
    classifier = dx.Classifier(tiny_classifier(), labels=LABELS)
    with dx.Explainer(load_pipeline(tiny_sd()), classifier) as explainer:
        audit = explainer.audit(concepts=TINY_GROUPS, pool=tmp_path / "pool", **QUICK)
        with pytest.raises(ValueError, match="audit: wanted an audit with findings of 'boat'"):
            replace(audit, rows=[replace(row, finding=False) for row in audit.rows]).attribute(pictures(), "boat")
        told = [replace(row, finding=row.concept == f"{group}:{first}") for row in audit.rows]
        audit = replace(audit, rows=told)
        found = audit.attribute(pictures(), "boat", **given)
        read = dx.Audit.load(audit.save(tmp_path / "audit"))
        again = explainer.attribute(pictures(), "boat", taxonomy=read, **given)
        plain = explainer.attribute(pictures(), "boat", taxonomy={group: list(values)}, **given)
        another = replace(audit, classifier="resnet", settings=audit.settings | {"classifier_fingerprint": "0" * 64})
        beside = explainer.attribute(pictures(), "boat", taxonomy=another, **given)
    assert found.taxonomy == again.taxonomy == dx.Taxonomy.from_audit(audit, "boat")
    assert [row.concept for row in found.rows] == [row.concept for row in again.rows]
    assert found.audited == again.audited and plain.audited is None
    assert (
        found.settings["classifier_fingerprint"] == classifier.fingerprint() == audit.settings["classifier_fingerprint"]
    )
    assert not found.not_compared and not plain.not_compared
    assert [row.concept for row in beside.rows] == [row.concept for row in found.rows] and beside.audited is None
    both = f"is one of resnet, not an audit of {classifier.name}, whose answers are measured here."
    assert both in beside.not_compared and beside.not_compared in beside.summary()
    assert dx.Attribution.load(beside.save(tmp_path / "beside")).not_compared == beside.not_compared
    assert "is one of resnet, not an audit of" in beside.report(tmp_path / "beside.html").read_text()
    assert found.audited is None or {row.concept for row in found.audited.rows} <= {row.concept for row in told}
    with pytest.raises(ValueError, match="attribute: wanted an audit of this session"):
        read.attribute(pictures(), "boat")
