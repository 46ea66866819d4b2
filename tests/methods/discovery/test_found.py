"""What explanations found, in a trial: kinds, verdicts, fresh pictures, and what is refused."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.api.found import found_by
from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.disturbed import as_jpeg, shifted
from diffexplain_fast.methods.discovery import found
from diffexplain_fast.methods.discovery.explained import kind_of, seen_changes
from diffexplain_fast.methods.discovery.question import Found
from diffexplain_fast.methods.discovery.rows import rows_of
from diffexplain_fast.methods.discovery.verdicts import verdicts_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import FoundFeature
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.stats.named import Interval, Named
from tests.auditing import QUICK, made_up, quick_audit
from tests.explaining import QUICK as QUICK_EXPLANATION
from tests.tiny import LABELS, tiny_classifier, tiny_sd

FEATURE = FoundFeature(
    "fish", ["diagonal"], 4.0, 3.0, 5.0, 3.9, 2.8, 5.0, 0.03, -0.1, 0.2, 0.4, [], "unnamed"
)  # fmt: skip


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    """Return an explanation of the tiny classifier's fish."""
    with Explainer(load_pipeline(tiny_sd()), Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        return explainer.explain("fish", **QUICK_EXPLANATION)


def named(effect: float, rest: float, share: float) -> Named:
    """Return low ends of an effect, of what is unexplained, and of the share."""
    return Named(*(Interval(low + 0.5, low, low + 1.0) for low in (effect, rest, share)))


def test_kinds() -> None:
    patterned, drawn, nothing = named(3, 2.5, 0.0), named(3, -0.2, 0.9), named(0.2, 0.1, 0.0)
    same = dict.fromkeys(("plain", "jpeg", "shift"), patterned)
    assert kind_of(same, 0.5) == "unnamed"
    assert kind_of({**same, "shift": drawn}, 0.5) == "fragile" and kind_of({**same, "jpeg": drawn}, 0.5) == "fragile"
    assert kind_of({**same, "plain": drawn}, 0.5) == "named"
    assert kind_of({**same, "plain": nothing}, 0.5) == "not confirmed"
    assert kind_of({**same, "plain": named(3, -0.2, 0.3)}, 0.5) == "undecided"


def test_what_the_eye_sees_is_corrected_and_what_it_cannot_see_may_explain_all() -> None:
    change = np.array([[1.0, -1.0, 0.0, 1.0, np.nan, 1.0]])
    weights = np.array([3.0, 0.0, 0.0, 2.0, -1.0, 1.0])
    good = Errors(np.array([0, 1]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    poor = Errors(np.array([2, 3]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    unseen = Errors(np.array([], dtype=np.int64), np.zeros((0, 0)))
    changes, slack = seen_changes(change[:, :4], [good, poor], weights[:4], [2, 2])
    assert changes[0] == pytest.approx([1.25, -1.25, 0, 0]) and slack == pytest.approx(2.0)
    changes, slack = seen_changes(change, None, weights, [2, 2, 1, 1])
    assert changes[0] == pytest.approx([1, -1, 0, 1, 0, 1]) and slack == pytest.approx(1.0)
    _, slack = seen_changes(change[:, :2], [unseen], weights[:2], [2])
    assert slack == pytest.approx(3.0)


def test_a_feature_without_a_name_is_a_verdict_only_where_nothing_has_a_name() -> None:
    nothing = made_up({}, concepts=None)
    rows = rows_of(nothing)
    blank = [replace(row, finding=False, role="none") for row in rows]
    verdict = verdicts_of(nothing, blank, [], [FEATURE])["fish"]
    assert verdict.kind == "unnamed" and not verdict.concepts
    assert "tokens near diagonal raise fish by +4.0 [3.0, 5.0]" in verdict.sentence and "3 %" in verdict.sentence
    assert verdicts_of(nothing, blank, [], [replace(FEATURE, kind="fragile")])["fish"].kind == "undecided"
    assert verdicts_of(nothing, rows, [], [FEATURE])["fish"].kind == "core"
    assert verdicts_of(nothing, blank, [], [FEATURE])["boat"].kind == "undecided"


def test_a_jpeg_and_a_shift_keep_what_a_picture_shows() -> None:
    levels = torch.full((2, 3, 16, 16), 40, dtype=torch.uint8)
    levels[:, :, 4:8, 4:8] = 200
    moved = shifted(levels)
    assert moved.shape == levels.shape and (moved[:, :, 6:10, 6:10] == 200).all() and int((moved == 200).sum()) == 96
    coded = as_jpeg(levels)
    assert coded.shape == levels.shape and not torch.equal(coded, levels)
    assert (coded.float() - levels.float()).abs().mean() < 12


def test_an_explanation_is_tried_in_fresh_pictures(explanation: Explanation, tmp_path: Path) -> None:
    audit = quick_audit(tmp_path / "pool", explain={"fish": explanation})
    (feature,) = audit.found
    assert feature.target == "fish" and feature.words == [words[0].word for words in explanation.words]
    assert feature.low < feature.effect < feature.high and feature.unexplained is None  # nobody looks at the pictures
    train, held_out = (explanation.activation[name].mean_logit for name in ("train", "held_out"))
    assert feature.optimism == pytest.approx(train - held_out)
    again = quick_audit(tmp_path / "pool", explain={"fish": explanation})
    assert again.settings["pictures_drawn"] == 0 and again.found == audit.found
    assert audit.settings["pictures_drawn"] == 24 + 4 * 6 + 64
    loaded = Audit.load(audit.save(tmp_path / "audit"))
    assert loaded.found == audit.found and asdict(loaded.found[0]) == asdict(feature)
    assert "tokens near" in audit.report(tmp_path / "audit.html").read_text()
    assert not quick_audit(tmp_path / "pool").found


def test_an_eye_names_what_the_tokens_bring(explanation: Explanation, tmp_path: Path) -> None:
    def eye(pixels: torch.Tensor) -> np.ndarray:
        return np.repeat((pixels.mean((1, 2, 3)) > 0.5).double().numpy()[:, None], 4, 1)

    (feature,) = quick_audit(tmp_path / "pool", explain={"fish": explanation}, eye=eye).found
    assert feature.unexplained is not None and feature.unexplained_low is not None
    assert feature.unexplained_low <= feature.unexplained <= (feature.unexplained_high or 0)


@pytest.mark.parametrize(("second", "scenes", "kind"), [(1.0, 96, "unnamed"), (3.0, 32, "unnamed"), (0.0, 32, None)])
def test_what_few_scenes_do_not_decide_is_asked_of_more(
    monkeypatch: pytest.MonkeyPatch, second: float, scenes: int, kind: str | None
) -> None:
    asked = list[int]()

    def said(question: object, place: int, stage: str, captions: list[str], soft: torch.Tensor | None) -> found._Said:
        rng = np.random.default_rng([0, soft is None])
        values = rng.standard_normal(len(captions)) + (0 if soft is None else second)
        asked.append(len(captions))
        return found._Said(dict.fromkeys(("plain", "jpeg", "shift"), values), np.zeros((len(captions), len(names))))

    trial = made_up({})
    names = trial.concepts.names
    monkeypatch.setattr(found, "_said", said)
    monkeypatch.setattr(found, "_scenes", lambda question, place: ["a fish"] * found.SCENES[-1])
    question = SimpleNamespace(found={1: Found(torch.zeros(2, 3), ["fish"], 0.0)})
    (feature,) = found.found_features(question, trial, rows_of(trial), lambda done, total: None)  # type: ignore[arg-type]
    assert asked[-1] == scenes and asked[0] == 32
    assert feature.kind == kind if kind else feature.kind == "not confirmed"


def test_captions_hold_any_of_the_free_words_but_the_target_s_own() -> None:
    words = ["fish", "desert", "snow", "sea", "sun", "moon", "kite", "flag"]
    phrases, readout = SimpleNamespace(say=lambda said, words, number: " ".join(words), count=1), made_up({}).readout
    question = SimpleNamespace(concepts=Concepts(words=words), readout=readout, seed=0, phrases=phrases)
    said = [text.split() for text in found._scenes(question, 1)]  # type: ignore[arg-type]
    assert {word for one in said for word in one} == {*words[1:]} and max(map(len, said)) == 2
    assert np.mean([len(one) for one in said]) == pytest.approx(1, abs=0.25)


def test_true_explains_every_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explanation: Explanation) -> None:
    asked: list[object] = []

    def explained(self: Explainer, target: object, **options: object) -> Explanation:
        asked.append(target)
        assert options["num_inference_steps"] == QUICK["num_inference_steps"]
        return explanation

    monkeypatch.setattr(Explainer, "explain", explained)
    audit = quick_audit(tmp_path / "pool", targets=["fish", "boat"], explain=True)
    assert asked == [1, 0] and [one.target for one in audit.found] == ["fish", "boat"]


def test_what_is_no_explanation_is_refused(explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="explain: wanted True, False, or a dict"):
        quick_audit(tmp_path / "pool", explain={"fish": 3})
    with pytest.raises(ValueError, match="explain: wanted one of 4 known names, nearest: fish"):
        quick_audit(tmp_path / "pool", explain={"fsh": explanation})
    other = replace(explanation, prompt_embeds=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="explain, fish: wanted tokens of"):
        quick_audit(tmp_path / "pool", explain={"fish": other})
    long = replace(explanation, prompt_embeds=explanation.prompt_embeds[:1].repeat(70, 1))
    with pytest.raises(ValueError, match="explain: wanted tokens that fit after a caption"):
        quick_audit(tmp_path / "pool", explain={"fish": long})
    assert not list(tmp_path.glob("pool/*.png"))


def test_the_optimism_of_a_search_on_another_classifier_is_not_told(explanation: Explanation) -> None:
    readout, pipeline = made_up({}).readout, load_pipeline(tiny_sd())
    mine = replace(explanation, settings={"classifier_fingerprint": readout.classifier.fingerprint()})
    other = replace(explanation, settings={"classifier_fingerprint": "0" * 64})
    # Where weights are not known, as of functions, names tell classifiers apart, as beside an attribution.
    named = replace(explanation, settings={"classifier_fingerprint": "callable a.b", "classifier": "another"})
    first, second, third = (found_by({"fish": one}, readout, pipeline)[1] for one in (mine, other, named))
    assert first.optimism is not None and second.optimism is None and first.words == second.words
    assert third.optimism is None
