"""Likeness of prompts, and several explanations of one class that keep away from one another."""

from pathlib import Path

import pytest
import torch

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer import likeness as likeness_module
from diffexplain_fast.methods.diffexplainer.likeness import likeness, new_ones, penalty
from diffexplain_fast.methods.diffexplainer.screening import Start, soft_from_text
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.storage import read_json, write_json_atomic, write_manifest
from diffexplain_fast.targets import ClassProbability
from tests.explaining import QUICK, assert_same_result, quick_explainer
from tests.methods.diffexplainer.test_population import problem_of


def test_a_prompt_is_like_itself_and_unlike_another() -> None:
    problem = problem_of()
    snow, fish = (soft_from_text(problem.pipeline, word, 2) for word in ("snow", "fish"))
    alike = likeness(problem, torch.stack([snow, fish]), [snow, fish])
    torch.testing.assert_close(alike.diagonal(), torch.ones(2))
    assert float(alike[0, 1]) == pytest.approx(float(alike[1, 0])) and float(alike[0, 1]) < 0.9
    starts = [Start("snow", snow), Start("fish", fish)]
    assert (
        new_ones(problem, starts) == starts
        and new_ones(problem, []) == []
        and penalty(problem, snow[None]).tolist() == [0.0]
    )
    another = problem.after([snow])
    assert starts[0] not in new_ones(another, starts)
    assert float(penalty(another, snow[None])) == pytest.approx(10.0, rel=1e-4)
    assert problem.cost.rows == 0 < another.cost.rows, "only where there is something to compare with"


def test_a_prompt_that_adds_more_beside_the_same_is_more_alike_than_one_that_adds_little_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {1: [[1.0, 0.0]], 2: [[1.0, 3.0], [0.1, 0.3]]}  # of the one that is there, and of two of equal cosine
    monkeypatch.setattr(likeness_module, "_answers", lambda _, softs: torch.tensor(answers[len(softs)]))
    problem = problem_of()
    soft = soft_from_text(problem.pipeline, "snow", 2)
    more, little = penalty(problem.after([soft]), soft.expand(2, -1, -1)).tolist()
    assert more == pytest.approx(10 * ((10**-0.25) - 0.3) / 0.3) and little == 0.0


def test_prompts_that_draw_the_same_are_alike_whatever_their_words_are() -> None:
    pipeline, classifier = load_pipeline("tinyworld"), Classifier.from_pretrained("tinyworld/clean")
    sampler = DifferentiableSampler.from_pipe(pipeline, num_inference_steps=8, guidance_scale=4.0)
    problem = Problem(pipeline, sampler, classifier, ClassProbability("star").bind(classifier), "", 0)
    night = problem.after([soft_from_text(pipeline, "house on night", 3)])
    same, other = (soft_from_text(pipeline, text, 3) for text in ("boat on night", "house with kite"))
    rows = night.cost.rows
    assert [start.name for start in new_ones(night, [Start("same", same), Start("other", other)])] == ["other"]
    assert night.cost.rows - rows == 10, "the neutral prompt, and the one that is there, are asked about once"
    rows = night.cost.rows
    lost, kept = penalty(night.with_steps(4), torch.stack([same, other])).tolist()
    assert lost > 8 > 3 > kept
    assert night.cost.rows - rows == 6, "the one that is there is not asked about at every look"
    fresh = problem.after(night.others)
    assert penalty(fresh, torch.stack([same, other])).tolist() == [lost, kept] and fresh.cost.rows == 10
    assert float(penalty(night.after([other]), other[None])) == pytest.approx(10.0, rel=1e-4), "others have others"


def test_explanations_of_one_class_differ_and_are_saved_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness_module, "_SAME", 0.99)  # to a denoiser that learnt nothing all words are alike
    options = {**QUICK, "start": "screen", "candidates": ["red", "blue", "snow", "fish"], "n_tokens": 1}
    options |= {"iterations": 1, "lr": 1e-9}  # so that what is found is the word
    with quick_explainer() as explainer:
        found = explainer.explain("boat", modes=3, checkpoint=tmp_path / "run", **options)
        again = explainer.explain("boat", modes=3, checkpoint=tmp_path / "run", **options)
        problem = problem_of().after([found.prompt_embeds])
    everything = (found, *found.others)
    assert len({each.settings["start"] for each in everything}) == len(everything) == 3
    words = [each.settings["start"] for each in found.others]
    starts = [Start(word, soft_from_text(problem.pipeline, word, 1)) for word in words]
    assert new_ones(problem, starts) == starts
    found.save(tmp_path / "saved")
    loaded = Explanation.load(tmp_path / "saved")
    for first, second, third in zip(everything, (loaded, *loaded.others), (again, *again.others), strict=True):
        assert_same_result(first, second)
        assert_same_result(first, third)


def test_a_record_of_more_explanations_than_there_are_files_is_refused(tmp_path: Path) -> None:
    with quick_explainer() as explainer:
        explainer.explain("boat", **QUICK).save(tmp_path)
    record = read_json(tmp_path / "explanation.json")
    for count in (1, 10**12):
        write_json_atomic(tmp_path / "explanation.json", {**record, "others": count})
        write_manifest(tmp_path)
        with pytest.raises(CorruptFileError):
            Explanation.load(tmp_path)


@pytest.mark.parametrize("modes", [0, -1, 1.5])
def test_a_number_of_explanations_is_whole_and_positive(modes: object) -> None:
    with quick_explainer() as explainer, pytest.raises((TypeError, ValueError), match=r"^modes: wanted"):
        explainer.explain("boat", modes=modes, **QUICK)
