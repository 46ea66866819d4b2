"""Attributions of tiny models: the contract of their names, exact values, budgets, and what is wrong with arguments."""

import dataclasses

import pytest
import torch
from PIL import Image

import diffexplain_fast as dx
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.runs.progress import Progress
from tests.methods.diffex import worlds
from tests.methods.diffex.worlds import TAXONOMY, Brightness, pictures, quick_attribution, through_autoencoder
from tests.tiny import LABELS, tiny_classifier, tiny_sd


@pytest.fixture(scope="module")
def result() -> dx.Attribution:
    return quick_attribution()


def test_there_is_a_row_for_each_concept_that_a_picture_does_not_show(result: dx.Attribution) -> None:
    names = {(row.image, row.concept) for row in result.rows}
    first = {(0, name) for name in ("thing:fish", "thing:house", "ground:desert")}
    assert names == first | {(1, name) for name in ("thing:boat", "thing:house", "ground:snow")}
    assert all(row.n == 1 and row.low <= row.effect <= row.high for row in result.rows)
    assert result.denoiser_rows > 0 and result.settings["verifier"] == "denoiser"
    assert result.settings["denoiser"] == "lean model"


def test_an_effect_is_the_change_of_the_centred_logit_of_the_edited_picture(result: dx.Attribution) -> None:
    classifier = dx.Classifier(tiny_classifier(), labels=LABELS)
    row = result.rows[0]
    (edit,) = result.edits(image=row.image, concept=row.concept)
    assert edit.effect == row.effect and edit.concepts == (row.concept,)
    # Without a segmenter the whole picture is drawn, so the baseline is the picture through the autoencoder.
    before = through_autoencoder(pictures()[:1])
    with torch.no_grad():
        values = [logits[:, 0] - logits.mean(1) for logits in map(classifier, (before, _as_tensor(edit.image)))]
    assert float(values[1] - values[0]) == pytest.approx(row.effect, abs=0.02)  # the picture has only 8 bits


def _as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.tensor(list(image.tobytes())).reshape(*image.size, 3).permute(2, 0, 1)[None].float() / 255


def test_effects_are_over_pictures_and_interactions_are_differences(result: dx.Attribution) -> None:
    assert {effect.concept for effect in result.effects} == {row.concept for row in result.rows}
    house = next(effect for effect in result.effects if effect.concept == "thing:house")
    rows = [row for row in result.rows if row.concept == "thing:house"]
    verified = [row for row in rows if row.success] or rows
    assert house.effect == pytest.approx(sum(row.effect for row in verified) / len(verified))
    assert house.effect_all == pytest.approx(sum(row.effect_all for row in rows) / 2)
    assert all(0 <= effect.adjusted_p <= 1 for effect in result.effects)
    pair = result.interactions[0]
    names, values = (pair.concept_a, pair.concept_b), []
    for i in range(2):
        if any(set(edit.concepts) == set(names) for edit in result.edits(i)):
            both = result.edits(i, names)[0].effect
            values.append(both - sum(result.edits(i, name)[0].effect for name in names))
    assert values and pair.effect_all == pytest.approx(sum(values) / len(values))


def test_the_same_call_gives_the_same_result_and_another_seed_another(result: dx.Attribution) -> None:
    again = quick_attribution(beam_width=1)
    assert again.rows == result.rows
    more = quick_attribution(seeds=2, images=pictures(1), beam_width=1)
    assert all(row.n == 2 for row in more.rows)
    assert len({edit.effect for edit in more.edits(0, "thing:fish")}) == 2


def test_a_flip_is_a_picture_that_the_classifier_calls_otherwise() -> None:
    model, given = Brightness(0.46), pictures()  # through the autoencoder they are hardly of the first class
    classifier = dx.Classifier(model, labels=("light", "dark"))
    with dx.Explainer(tiny_sd(), classifier) as explainer:
        found = explainer.attribute(given, "light", taxonomy=TAXONOMY, captions=["a boat", "a fish"])
    for picture, flip in zip(through_autoencoder(given), found.counterfactuals, strict=True):
        assert flip is not None and flip.before == "light"
        assert flip.flipped == (flip.after == "dark") and 1 <= len(flip.changes) <= 3
        assert flip.probability_before == pytest.approx(float(model(picture[None]).softmax(1)[0, 0]), abs=1e-5)
    assert any(flip is not None and flip.flipped for flip in found.counterfactuals)
    with dx.Explainer(tiny_sd(), classifier) as explainer:
        other = explainer.attribute(given, "dark", taxonomy={"ground": ["snow"]}, captions=["a boat", "a fish"])
    assert other.counterfactuals == [None, None]  # the classifier does not call them dark


@pytest.mark.parametrize("target", [dx.Neuron("layer2", 3), lambda response: response.pixels.mean((1, 2, 3))])
def test_targets_without_a_class_have_effects_and_no_flips(target: object) -> None:
    found = quick_attribution(target=target, images=pictures(1))
    assert found.label is None and found.counterfactuals == [None]
    assert all(row.points is None for row in found.rows) and any(row.effect for row in found.rows)


def test_a_budget_is_kept_and_what_does_not_fit_is_left_out(result: dx.Attribution) -> None:
    assert not result.settings["budget_used_up"]
    found = quick_attribution(budget=100)
    assert found.settings["budget_used_up"] and 0 < len(found.rows) <= len(result.rows)
    assert found.denoiser_rows <= 100  # the rows of the verifier, which is the denoiser itself, included
    with pytest.raises(
        ValueError, match=r"budget: wanted enough for the caption and one edit, which take 24 rows, got 10"
    ):
        quick_attribution(budget=10)
    with pytest.raises(ValueError, match=r"budget: .* got 0\.001 s"):
        quick_attribution(budget="0.001 s", images=pictures(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"editor": "magic"}, "editor: wanted one of 4 known names"),
        ({"editor": "inpaint"}, "editor: wanted an editor that needs no regions"),
        ({"seeds": 0}, "seeds: wanted at least 1, got 0"),
        ({"beam_width": 0}, "beam_width: wanted at least 1"),
        ({"seeds": 1.5}, "seeds"),
        ({"budget": 0}, "budget: wanted rows of the denoiser as 2000"),
        ({"budget": "soon"}, "budget: wanted rows of the denoiser as 2000"),
        ({"budget": 2.5}, "budget: wanted rows of the denoiser as 2000"),
        ({"taxonomy": None}, "taxonomy: wanted a Taxonomy, because none ships"),
        ({"taxonomy": 3}, "taxonomy: wanted a Taxonomy, values of its JSON"),
        ({"captions": ["one"]}, "captions: wanted 2"),
        ({"target": "bot"}, "boat"),
        ({"images": []}, "images: wanted at least one picture"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said(options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        quick_attribution(**options)


def test_words_that_the_tokenizer_cuts_are_named_and_edited_all_the_same() -> None:
    with pytest.warns(UserWarning, match="goatee, beard, which the tokenizer cuts into pieces") as said:
        found = quick_attribution(taxonomy={"face": ["goatee", "beard"]}, images=pictures(1))
    assert [one.filename for one in said] == [worlds.__file__]  # the line that asked for the attribution
    assert found.settings["cut_words"] == ["goatee", "beard"] and len(found.rows) == 2


def test_captions_nobody_gave_are_chosen_by_the_denoisers_error() -> None:
    found = quick_attribution(captions=None, images=pictures(1))
    words = [word for words in TAXONOMY.values() for word in words]
    assert all(part in words for part in found.captions[0].split(", ") if part)
    assert found.settings["captions_given"] is False


def test_many_concepts_are_screened_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffexplain_fast.methods.diffex import screening

    monkeypatch.setattr(screening, "SCREENED_ABOVE", 3)
    monkeypatch.setattr(screening, "FINALISTS", 2)
    found = quick_attribution(
        taxonomy={"ground": ["snow", "desert", "tree", "house"]}, images=pictures(1), captions=["a fish"]
    )
    assert sorted(row.n for row in found.rows) == [0, 0, 1, 1]
    kept = min(abs(row.effect) for row in found.rows if row.n)
    assert all(row.editor == "screening" for row in found.rows if not row.n) and kept > 0


def test_edits_are_found_by_picture_and_name(result: dx.Attribution) -> None:
    assert len(result.edits(1)) == len(result.found[1])
    with pytest.raises(ValueError, match="image: wanted a number below 2, got 2"):
        result.edits(2)
    with pytest.raises(UnknownNameError, match="thing:fish"):
        result.edits(0, "thing:fsh")


def test_it_is_saved_and_loaded(result: dx.Attribution, tmp_path) -> None:
    read = dx.Attribution.load(result.save(tmp_path / "a"))
    for field in dataclasses.fields(dx.Attribution):
        if field.name not in ("images", "found", "counterfactuals"):
            assert getattr(read, field.name) == getattr(result, field.name), field.name
    assert read.to_json() == result.to_json()
    assert [image.tobytes() for image in read.images] == [image.tobytes() for image in result.images]
    for mine, theirs in zip(result.edits(1), read.edits(1), strict=True):
        assert mine.image.tobytes() == theirs.image.tobytes() and mine.concepts == theirs.concepts


def test_a_table_needs_pandas(result: dx.Attribution) -> None:
    try:
        import pandas  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install pandas"):
            result.to_dataframe()
    else:
        assert list(result.to_dataframe()["effect"]) == [row.effect for row in result.rows]


def test_nothing_of_the_users_models_changes() -> None:
    pipe, module = tiny_sd(), tiny_classifier()
    module.train()
    with dx.Explainer(pipe, dx.Classifier(module, labels=LABELS)) as explainer:
        explainer.attribute(pictures(1), "boat", taxonomy=TAXONOMY, captions=["a boat"], editor="guide")
    assert module.training and all(weight.requires_grad for weight in module.parameters())
    assert all(weight.requires_grad for weight in pipe.unet.parameters())


def test_a_callback_hears_how_far_it_is_and_bars_show_it(capsys: pytest.CaptureFixture) -> None:
    events: list[Progress] = []
    found = quick_attribution(callback=events.append)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert phases == ["edit", "placebo", "joint", "flip"] and not capsys.readouterr().err
    edits = [event for event in events if event.phase == "edit"]
    assert [event.iteration for event in edits] == sorted({event.iteration for event in edits})
    assert all(event.iteration <= event.iterations for event in edits)
    # The first guess is of first tries; that the denoiser verifies, and that edits fail, comes on top.
    assert edits[0].iteration < edits[0].iterations < edits[-1].iterations == edits[-1].iteration
    for phase in phases[1:]:
        told = [(event.iteration, event.iterations) for event in events if event.phase == phase]
        assert told == [(0, 2), (1, 2), (2, 2)]
    assert edits[-1].iteration < found.denoiser_rows
    quick_attribution(progress=True)
    assert "ClassProbability(boat): editing" in capsys.readouterr().err


def test_a_callback_that_raises_stops_the_attribution() -> None:
    def stop(event: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_attribution(callback=stop)
    with pytest.raises(TypeError, match="callback: wanted a function of one Progress, or None, got int"):
        quick_attribution(callback=3)
    with pytest.raises(TypeError, match="progress: wanted True, False or None, got str"):
        quick_attribution(progress="bars")


SHOWN = {"taxonomy": {"ground": ["snow"]}, "captions": ["a fish on snow", "a boat"]}


def test_a_budget_is_refused_at_the_first_picture_that_is_edited() -> None:
    with pytest.raises(ValueError, match=r"budget: .* one edit, which take 24 rows, got 10"):
        quick_attribution(**SHOWN, budget=10)
    found = quick_attribution(**SHOWN, budget=24)
    assert [row.image for row in found.rows] == [1]


def test_pictures_that_show_all_concepts_already_are_said_to_do_so() -> None:
    said = "Nothing was edited: every picture shows all concepts already."
    found = quick_attribution(**SHOWN | {"captions": ["a fish on snow"]}, images=pictures(1), budget=10)
    assert not found.rows and found.unmeasured == said and said in found.summary()
    assert said not in quick_attribution(**SHOWN).summary()


def test_the_table_of_flips_is_over_all_pictures_that_are_recognised(tmp_path) -> None:
    one, given = Brightness(0.46), pictures()
    options = {"taxonomy": TAXONOMY, "captions": ["a boat", "a fish on snow"], "budget": 60}
    with dx.Explainer(tiny_sd(), dx.Classifier(one, labels=("light", "dark"))) as explainer:
        found = explainer.attribute(given, "light", **options)
        dark = explainer.attribute(given, "dark", **options)
    assert found.recognised == [0, 1] and dark.recognised == [] == dark.flips()
    assert not found.found[1] and found.found[0]  # the budget left out the second picture
    assert max(flip.together for flip in found.flips()) <= 0.5
    assert dx.Attribution.load(found.save(tmp_path / "a")).recognised == [0, 1]
