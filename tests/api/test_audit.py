"""Audits from the outside: what they give, keep, refuse and resume."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api import auditing
from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.evidence import drawing
from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.seeds import normal
from diffexplain_fast.methods.discovery.prepared import Prepared
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import AuditRow
from tests.auditing import QUICK, TINY_GROUPS, quick_audit
from tests.explaining import QUICK as QUICK_EXPLANATION
from tests.tiny import LABELS, tiny_classifier, tiny_sd, tiny_sd2


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a pool that the tests of this file share."""
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def audit(pool: Path) -> Audit:
    """Return an audit."""
    return quick_audit(pool)


def test_an_audit_has_a_row_for_every_class_and_concept(audit: Audit) -> None:
    assert [(row.target, row.concept) for row in audit.rows] == [
        (label, f"{group}:{value}") for label in LABELS for group, values in TINY_GROUPS.items() for value in values
    ]
    assert set(audit.verdicts) == set(LABELS) and audit.settings["pictures_used"] == 24
    assert audit.settings["own_objects"] == {"classes": 4, "pictures_each": 6}
    row = audit.rows[0]
    assert row["effect"] == row.effect and dict(row)["target"] == "boat" and len(row.keys()) >= 17
    with pytest.raises(KeyError):
        row["colour"]


def test_the_next_audit_draws_nothing_and_says_the_same(audit: Audit, pool: Path) -> None:
    again = quick_audit(pool)
    assert again.settings["pictures_drawn"] == 0 and audit.settings["pictures_drawn"] > 0
    assert repr(again.rows) == repr(audit.rows) and again.verdicts == audit.verdicts


def test_a_classifier_of_many_classes_gets_a_plan_for_its_own_objects(pool: Path) -> None:
    labels = [f"class {i}" if i >= 4 else LABELS[i] for i in range(40)]
    classifier = Classifier(tiny_classifier(40), labels=labels)
    with Explainer(load_pipeline(tiny_sd()), classifier) as explainer:
        audit = explainer.audit(concepts=TINY_GROUPS, pool=pool, **QUICK)
    assert len(audit.rows) == 40 * 4 and audit.settings["pictures_drawn"] == 0
    assert audit.settings["own_objects"]["pictures_each"] == 6  # only four classes have words that can be said


def test_targets_are_classes_or_units(pool: Path) -> None:
    audit = quick_audit(pool, targets=["fish", "layer2:3"])
    assert [row.target for row in audit.rows[::4]] == ["fish", "Neuron(layer2, 3)"]
    assert audit.rows[4].answered_with is None and audit.rows[0].answered_with is not None
    assert repr(quick_audit(pool, targets="fish").rows) == repr(quick_audit(pool, targets=1).rows)


def test_units_of_a_layer_have_their_strongest_concept(audit: Audit) -> None:
    units = audit.units("layer2", top=5)
    assert len(units) == 5 and all(unit.concept in {row.concept for row in audit.rows} for unit in units)
    sizes = [abs(unit.effect) for unit in units]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(ValueError, match="top: wanted at least 1"):
        audit.units("layer2", top=0)
    with pytest.raises(ValueError, match="layer9"):
        audit.units("layer9")


def test_units_are_given_or_those_that_matter_to_a_class(audit: Audit) -> None:
    assert [unit.name for unit in audit.units("layer2", units=[7, 2])] == ["unit 7", "unit 2"]
    fish = audit.units("layer2", top=3, target="fish")
    shares = [unit.contribution or 0 for unit in fish]
    assert len(fish) == 3 and shares == sorted(shares, reverse=True)
    with pytest.raises(ValueError, match="layer: wanted the layer before the last linear one"):
        audit.units("layer1", target="fish")
    with pytest.raises(ValueError, match=r"units: wanted numbers from 0 to 11, got \[12\]"):
        audit.units("layer2", units=[12])


def test_directions_are_features_too(audit: Audit) -> None:
    rows = audit.directions("layer2", 2) + audit.directions("layer2", ["background:desert"])
    assert [row.name for row in rows] == ["PCA 1", "PCA 2", "CAV background:desert"]


def test_a_saved_audit_is_read_back(audit: Audit, tmp_path: Path) -> None:
    found = Audit.load(audit.save(tmp_path / "audit"))
    assert (
        repr(found.rows) == repr(audit.rows) and found.verdicts == audit.verdicts and found.settings == audit.settings
    )
    assert all(np.array_equal(found.outcomes[name], array) for name, array in audit.outcomes.items())
    assert [image.tobytes() for image in found.images] == [image.tobytes() for image in audit.images]
    with pytest.raises(ValueError, match="units: wanted an audit of this session"):
        found.units("layer2")
    with pytest.raises(ValueError, match="directions: wanted an audit of this session"):
        found.directions("layer2", 1)
    (tmp_path / "audit" / "audit.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"audit.json"):
        Audit.load(tmp_path / "audit")


def test_a_difference_of_an_audit_to_itself_is_nothing(audit: Audit, tmp_path: Path) -> None:
    difference = audit.diff(Audit.load(audit.save(tmp_path / "audit")))
    assert [row.concept for row in difference.rows] == [row.concept for row in audit.rows]
    assert all(row.effect == pytest.approx(0, abs=1e-9) and not row.finding for row in difference.rows)
    with pytest.raises(ValueError, match="other: wanted two audits of generated pictures"):
        audit.diff(difference)
    with pytest.raises(TypeError, match="other: wanted an Audit"):
        audit.diff(3)  # type: ignore[arg-type]


def test_a_difference_finds_what_a_checkpoint_has_learnt(audit: Audit, pool: Path) -> None:
    class Shifted(nn.Module):
        """The tiny classifier, a unit of whose answers is larger in brighter pictures."""

        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_classifier()

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.model(pixels)
            return torch.cat([logits[:, :1] + 100 * pixels.mean((1, 2, 3))[:, None], logits[:, 1:]], 1)

    with Explainer(load_pipeline(tiny_sd()), Classifier(Shifted(), labels=LABELS)) as explainer:
        later = explainer.audit(concepts=TINY_GROUPS, pool=pool, **QUICK)
    difference = later.diff(audit)
    for row, new, old in zip(difference.rows, later.rows, audit.rows, strict=True):
        assert row.effect == pytest.approx(new.effect - old.effect, abs=1e-6)
    assert max(abs(row.effect) for row in difference.rows) > 1e-3
    for row, new, old in zip(difference.rows, later.rows, audit.rows, strict=True):
        rises = [one.answered_with - one.answered_without for one in (row, new, old)]
        assert rises[0] == pytest.approx(rises[1] - rises[2])
        assert row.points_low <= rises[0] <= row.points_high
        widths = [one.points_high - one.points_low for one in (row, new, old)]
        assert max(widths[1:]) - 1e-9 <= widths[0] <= sum(widths[1:]) + 1e-9
        assert row.words_p is None and not row.words_disagree
    with pytest.raises(ValueError, match="condition: wanted false_answers, spurious, findings"):
        difference.decide("worst_group<0.5")
    later.settings["output"] = "regression"
    with pytest.raises(ValueError, match="other: wanted an audit whose effects are in units of the output"):
        later.diff(audit)


def test_the_table_has_the_columns_of_the_rows(audit: Audit) -> None:
    pandas = pytest.importorskip("pandas")
    table = audit.to_dataframe()
    assert isinstance(table, pandas.DataFrame) and list(table.columns) == AuditRow.names()
    assert len(table) == len(audit.rows)


def test_the_page_is_escaped_and_names_the_targets(pool: Path, tmp_path: Path) -> None:
    classifier = Classifier(tiny_classifier(), labels=["<b>boat</b>", "fish", "house", "tree"])
    with Explainer(load_pipeline(tiny_sd()), classifier) as explainer:
        page = explainer.audit(concepts=TINY_GROUPS, pool=pool, **QUICK).report(tmp_path / "audit.html").read_text()
    assert "<b>boat" not in page and "&lt;b&gt;boat&lt;/b&gt;" in page
    assert page.count("<script") == 1 and "http://" not in page and "https://" not in page
    assert all(label in page for label in ("fish", "house", "tree", "desert"))


REFUSED = {
    "no target": ({"targets": []}, 'targets: wanted "all", or at least one target, got none'),
    "an unknown class": ({"targets": ["fsh"]}, "label: wanted one of 4 known names, nearest: fish"),
    "a target twice": ({"targets": ["fish", 1]}, "targets: wanted every target once, got fish twice"),
    "too few pictures": ({"pictures": 8}, "pictures: wanted at least 24, got 8"),
    "a level": ({"level": 1.0}, "level: wanted above 0 and below 1, got 1.0"),
    "an effect": ({"minimal_effect": -1}, "minimal_effect: wanted at least 0, got -1"),
    "no concept": ({"concepts": {}}, "concepts: wanted at least one group of values"),
    "no concepts of this pipeline": ({"concepts": None}, "concepts: wanted groups of values or words"),
    "a word that is cut": ({"concepts": ["red", "zebra"]}, "got zebra, cut into letters"),
    "a control": ({"control": "none"}, 'control: wanted "fdr" or "any" or "family", got none'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        quick_audit(tmp_path / "pool", **options)
    assert not list(tmp_path.glob("pool/*.png"))


def test_the_wrong_kind_and_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"option: wanted one of .* nearest: control"):
        quick_audit(tmp_path, contrl="fdr")
    with pytest.raises(TypeError, match="pictures: wanted"):
        quick_audit(tmp_path, pictures="many")
    with pytest.raises(TypeError, match="eye: wanted"):
        quick_audit(tmp_path, eye=3)


def test_bars_show_how_far_an_audit_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    quick_audit(tmp_path, progress=False)
    assert not capsys.readouterr().err
    quick_audit(tmp_path / "again", progress=True)
    assert "audit: drawing" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress: wanted True, False or None, got str"):
        quick_audit(tmp_path, progress="bars")


def test_errors_of_an_eye_of_one_s_own_are_measured_in_the_tiny_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sights: list[Sight | None] = []
    monkeypatch.setattr(auditing, "screened", lambda *given: (given[2], None))

    def looked_for(prepared: Prepared, callback: object) -> None:
        sights.append(prepared.question.sight)
        raise KeyboardInterrupt

    monkeypatch.setattr(auditing, "discover", looked_for)
    groups, rng = {"background": ["night", "snow"], "companion": ["sun", "kite"]}, np.random.default_rng(0)

    def eye(pixels: Tensor) -> np.ndarray:
        bright = (pixels.mean((1, 2, 3)) > 0.5).numpy() ^ (rng.random(len(pixels)) < 0.3)
        return np.stack([~bright, bright, *2 * [np.full(len(bright), np.nan)]], 1)

    for pipeline, concepts in (("tinyworld", groups), (tiny_sd(), TINY_GROUPS)):
        with (
            Explainer(load_pipeline(pipeline), Classifier(tiny_classifier(), labels=LABELS)) as explainer,
            pytest.raises(KeyboardInterrupt),
        ):
            explainer.audit(concepts=concepts, pool=tmp_path / str(len(sights)), eye=eye)
    ours, tiny = sights
    assert ours is not None and tiny is not None and ours.errors is not None and tiny.errors is None
    seen, unseen = ours.errors
    assert seen.believed and seen.matrix == pytest.approx(np.full((2, 2), 0.3) + 0.4 * np.eye(2), abs=0.2)
    assert not unseen.believed and not unseen.places.size


def test_the_pool_of_another_pipeline_is_refused_and_kept(pool: Path, audit: Audit) -> None:
    before = sorted(path.name for path in pool.iterdir())
    with (
        Explainer(load_pipeline(tiny_sd2()), Classifier(tiny_classifier(), labels=LABELS)) as explainer,
        pytest.raises(ValueError, match="pipeline_fingerprint"),
    ):
        explainer.audit(concepts=TINY_GROUPS, pool=pool, **QUICK)
    assert sorted(path.name for path in pool.iterdir()) == before


def test_an_audit_that_was_interrupted_ends_with_the_same_result(audit: Audit, tmp_path: Path) -> None:
    def interrupt(event: object) -> None:
        if getattr(event, "iteration", 0) >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_audit(tmp_path, callback=interrupt)
    resumed = quick_audit(tmp_path)
    assert 0 < resumed.settings["pictures_drawn"] < audit.settings["pictures_drawn"]
    assert repr(resumed.rows) == repr(audit.rows) and resumed.verdicts == audit.verdicts


def test_the_default_pool_lies_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path / "cache"))
    quick_audit(None)  # type: ignore[arg-type]
    (folder,) = (tmp_path / "cache" / "pools").iterdir()
    assert json.loads((folder / "identity.json").read_text())["seed"] == 0


def test_latents_and_captions_of_the_search_never_enter_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[bytes]] = {"explain": [], "audit": []}
    captions: dict[str, list[str]] = {"explain": [], "audit": []}
    pipeline, run = load_pipeline(tiny_sd()), "explain"
    encode = pipeline.encode_text

    def recorded(generator: torch.Generator, *shape: int) -> Tensor:
        found = normal(generator, *shape)
        drawn[run].append(found.numpy().tobytes())
        return found

    def heard(texts: list[str], **options: object) -> object:
        captions[run] += texts
        return encode(texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(drawing, "normal", recorded)
    monkeypatch.setattr(pipeline, "encode_text", heard)
    with Explainer(pipeline, Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        explainer.explain("boat", **{**QUICK_EXPLANATION, "start": "auto"})
        run = "audit"
        explainer.audit(concepts=TINY_GROUPS, pool=tmp_path, **QUICK)
    assert len(drawn["explain"]) >= 8 and len(drawn["audit"]) >= 24
    assert not set(drawn["explain"]) & set(drawn["audit"])
    assert captions["audit"] and not set(captions["explain"]) - {""} & set(captions["audit"])
