"""The public entry: the content and the settings of an explanation, and the arguments that are refused early."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.api.one_call import explain
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.targets import ClassLogit, ClassProbability, Neuron
from tests.engine.plain import make_scheduler
from tests.explaining import QUICK, assert_same_result, quick_explainer, quick_explanation
from tests.tiny import LABELS, seeded, tiny_classifier, tiny_sd, tiny_sd2, tiny_sdxl, tiny_unet, tiny_vae


def test_an_explanation_holds_everything() -> None:
    explanation = quick_explanation(prefix="a photo of")
    assert (explanation.label, len(explanation.images)) == ("boat", QUICK["n_images"])
    assert "boat" in explanation.target
    assert explanation.images[0].size == (16, 16)
    assert explanation.prompt_embeds.shape == (2, 16) and not explanation.prompt_embeds.requires_grad
    assert set(explanation.activation) == {"train", "held_out", "class_name"}
    for score in explanation.activation.values():
        assert score.n == QUICK["n_score"] and score.interval is not None
        assert score.rate is not None and score.interval[0] <= score.rate <= score.interval[1]
    assert [len(token) for token in explanation.words] == [5, 5]
    assert [item.iteration for item in explanation.history] == [0, 1, 2, 3]
    assert all(item.gradient_norm > 0 and item.seconds > 0 for item in explanation.history)


def test_the_settings_repeat_an_explanation() -> None:
    settings = quick_explanation(prefix="a photo of", candidates=("red", "snow"), start="auto").settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["seed"] == 0 and settings["options"]["lr"] == 0.05
    assert settings["sampler"]["backend"] == "fast" and settings["sampler"]["gradient"] == "full"
    assert len(settings["pipeline_fingerprint"]) >= 64 and len(settings["classifier_fingerprint"]) >= 64
    assert settings["class_name_prompt"] == "a photo of boat"
    tried = {entry["name"] for entry in settings["starts"]}
    assert tried >= {"red", "snow", "boat", "random 0"}  # and pairs of them
    assert settings["start"] in tried
    assert settings["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(("label", "cut"), [("boat", False), ("great white shark, white shark", True)])
def test_a_label_longer_than_the_context_is_cut_only_in_its_prompt(label: str, cut: bool) -> None:
    classifier = Classifier(tiny_classifier(), labels=(label, *LABELS[1:]))
    explanation = explain(classifier, label, tiny_sd(), **{**QUICK, "iterations": 1, "start": "auto"})
    assert explanation.label == explanation.settings["class_name_prompt"] == label
    assert explanation.settings["class_name_prompt_cut"] is cut
    assert explanation.activation["class_name"].n == QUICK["n_score"]


def test_an_explanation_is_saved_and_loaded(tmp_path: Path) -> None:
    explanation = quick_explanation()
    explanation.save(tmp_path / "boat")
    assert_same_result(explanation, Explanation.load(tmp_path / "boat"))


def test_one_call_equals_the_explainer() -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    assert_same_result(explain(classifier, "boat", tiny_sd(), **QUICK), quick_explanation())


@pytest.mark.parametrize(
    "target", [0, torch.tensor(0), "boat", ClassProbability("boat")], ids=["index", "tensor", "label", "target"]
)
def test_index_label_and_target_name_the_same_class(target: object) -> None:
    assert_same_result(quick_explanation(target=target, iterations=1), quick_explanation(iterations=1))


def test_steps_and_guidance_default_to_those_of_the_pipeline() -> None:
    pipe = tiny_sd()
    pipe.scheduler = make_scheduler("lcm")
    options = {**QUICK, "num_inference_steps": None, "guidance_scale": None, "iterations": 1}
    sampler = explain(Classifier(tiny_classifier(), labels=LABELS), "boat", pipe, **options).settings["sampler"]
    assert (sampler["num_inference_steps"], sampler["guidance_scale"]) == (4, 1.0)


def test_another_seed_gives_another_explanation() -> None:
    with quick_explainer(seed=1) as explainer:
        other = explainer.explain("boat", **QUICK)
    assert not torch.equal(other.prompt_embeds, quick_explanation().prompt_embeds)


# diffusers' Euler scheduler passes a tensor to np.array, and NumPy 2 warns about it.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("make", [tiny_sd2, tiny_sdxl])
def test_other_pipelines_give_explanations(make: Callable[[], Any]) -> None:
    with quick_explainer(pipe=make()) as explainer:
        explanation = explainer.explain("boat", **{**QUICK, "iterations": 1, "start": "red fish"})
    assert explanation.prompt_embeds.shape == (2, explainer.pipeline.embedding_dim)
    assert len(explanation.images) == 2


def test_a_sum_of_targets_is_explained() -> None:
    explanation = quick_explanation(target=ClassLogit("boat") + 0.5 * Neuron("layer2", 3))
    assert explanation.label == "boat" and "Neuron" in explanation.target


@pytest.mark.parametrize("gradient", ["checkpointed", "last:1", "detached", "shortcut:1"])
def test_gradient_modes_are_recorded(gradient: str) -> None:
    with quick_explainer(gradient=gradient) as explainer:
        assert explainer.explain("boat", **{**QUICK, "iterations": 1}).settings["sampler"]["gradient"] == gradient


def test_truth_of_the_class_comes_along() -> None:
    truth = {"boat": {"background": {"effect": 1.5}}}
    classifier = Classifier(tiny_classifier(), labels=LABELS, truth=truth)
    explanation = explain(classifier, "boat", tiny_sd(), **{**QUICK, "iterations": 1})
    assert explanation.truth == truth["boat"] and explanation.truth is not truth["boat"]
    assert explain(classifier, "fish", tiny_sd(), **{**QUICK, "iterations": 1}).truth is None


def test_progress_is_reported_in_order() -> None:
    events: list[Progress] = []
    quick_explanation(start="screen", candidates=["red", "blue", "snow"], callback=events.append)
    phases = [event.phase for event in events]
    assert phases == sorted(phases, key=["screen", "optimise", "evaluate"].index)
    steps = [event for event in events if event.phase == "optimise"]
    assert [(event.iteration, event.iterations) for event in steps] == [(i, 4) for i in range(1, 5)]
    assert all(event.loss is not None and event.seconds_left >= 0 for event in steps)
    assert [event for event in events if event.phase == "evaluate"][-1].seconds_left == 0


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("boot", {}, "boat"),
        (4, {}, "4"),
        ("", {}, "target"),
        (None, {}, "target"),
        (Neuron("layer9", 0), {}, "layer"),
        (Neuron("layer2", 99), {}, "99"),
        ("boat", {"num_inference_steps": 0}, "num_inference_steps"),
        ("boat", {"guidance_scale": float("nan")}, "guidance_scale"),
        ("boat", {"prefix": "a photo of the red boat a photo of the red boat a"}, "prompt"),
        ("boat", {"n_tokens": 15}, "prompt"),
    ],
)
def test_a_bad_value_is_named(target: object, options: dict, message: str) -> None:
    with quick_explainer() as explainer, pytest.raises(ValueError, match=message):
        explainer.explain(target, **{**QUICK, **options})


def test_numbers_of_numpy_are_accepted(tmp_path: Path) -> None:
    options = {**QUICK, "iterations": np.int64(1), "num_inference_steps": np.int32(2), "checkpoint": tmp_path / "run"}
    with quick_explainer(seed=np.int64(1)) as explainer, quick_explainer(seed=1) as other:
        found = explainer.explain("boat", **options)
        assert_same_result(found, other.explain("boat", **{**QUICK, "iterations": 1}))
    assert Explanation.load(found.save(tmp_path / "boat")).settings["seed"] == 1


def test_a_bad_kind_is_named() -> None:
    with pytest.raises(TypeError, match=r"^classifier: wanted a Classifier"):
        Explainer(tiny_sd(), tiny_classifier())
    with pytest.raises(TypeError, match=r"^seed: wanted"):
        quick_explainer(seed=0.5)
    with pytest.raises(TypeError, match=r"^seed: wanted a whole number, got bool"):
        quick_explainer(seed=True)
    with quick_explainer() as explainer:
        with pytest.raises(TypeError, match=r"^callback: wanted"):
            explainer.explain("boat", callback=3)
        with pytest.raises(TypeError, match="target"):
            explainer.explain(["boat"])
        with pytest.raises(TypeError, match=r"^option: wanted .* nearest: .* got 'learning_rate'"):
            explainer.explain("boat", learning_rate=0.1)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_caller_without_gradients_gets_the_same(mode: Callable) -> None:
    expected = quick_explanation(start="auto", candidates=["red", "snow"])
    with quick_explainer() as explainer, mode():
        found = explainer.explain("boat", **{**QUICK, "start": "auto", "candidates": ["red", "snow"]})
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode) and not torch.is_grad_enabled()
    assert_same_result(found, expected)
    assert not found.prompt_embeds.is_inference()


def test_models_loaded_in_inference_mode_have_gradients() -> None:
    with torch.inference_mode(), Explainer("tinyworld", "tinyworld/background") as explainer:
        classifier, pipeline = Classifier.from_pretrained("tinyworld/background"), load_pipeline("tinyworld")
    for found in (explainer.classifier.model, explainer.pipeline.unet, classifier.model, pipeline.unet):
        assert not any(weight.is_inference() for weight in found.parameters())


def test_an_unknown_label_names_the_nearest() -> None:
    with quick_explainer() as explainer, pytest.raises(UnknownNameError, match=r"nearest: .*boat"):
        explainer.explain("bout")


def test_a_backend_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="backend: wanted 'auto', 'reference' or 'fast', got 'quick'"):
        quick_explainer(backend="quick")


def test_a_folder_that_is_not_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_index\.json"):
        quick_explainer(pipe=str(tmp_path))


def test_models_are_read_once_for_all_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other targets and reserves get other plans over the same lean models; another schedule gets other models."""
    read: list[int] = []
    made = LeanUNet.__init__

    def counted(self: LeanUNet, *arguments: Any) -> None:
        read.append(1)
        made(self, *arguments)

    monkeypatch.setattr(LeanUNet, "__init__", counted)
    quick = {**QUICK, "iterations": 1}
    with quick_explainer(backend="fast", memory="1GiB") as explainer:
        read.clear()
        explainer.explain("boat", **quick)
        first = len(read)
        explainer.explain(1, **(quick | {"images_per_step": 3}))
        assert first <= 1 and len(read) == first
        explainer.explain("boat", **(quick | {"num_inference_steps": 3}))
        assert len(read) == first + 1


def test_a_replaced_scheduler_or_unet_is_followed() -> None:
    quick = {**QUICK, "iterations": 1}
    with quick_explainer(seed=0) as explainer:
        before = explainer.explain("boat", **quick)
        explainer.pipeline.scheduler = EulerDiscreteScheduler.from_config(explainer.pipeline.scheduler.config)
        after = explainer.explain("boat", **quick)
    assert (before.settings["sampler"]["scheduler"], after.settings["sampler"]["scheduler"]) == (
        "DDIMScheduler",
        "EulerDiscreteScheduler",
    )


def test_an_explainer_goes_on_from_its_own_checkpoint_in_any_mode(tmp_path: Path) -> None:
    """A UNet in training mode is frozen during an explanation, so its run has one identity before and after a call."""
    pipe = tiny_sd()
    pipe.unet.train()
    with quick_explainer(pipe=pipe) as explainer:
        first = explainer.explain("boat", checkpoint=tmp_path / "run", **QUICK)
        assert_same_result(first, explainer.explain("boat", checkpoint=tmp_path / "run", **QUICK))
    assert pipe.unet.training


def test_another_unet_of_the_pipeline_is_another_run(tmp_path: Path) -> None:
    with quick_explainer() as explainer:
        explainer.explain("boat", checkpoint=tmp_path / "run", **QUICK)
        explainer.pipeline.unet = seeded(lambda: tiny_unet(16), seed=1)
        with pytest.raises(ValueError, match="pipeline_fingerprint"):
            explainer.explain("boat", checkpoint=tmp_path / "run", **QUICK)


@pytest.mark.parametrize("name", ["scheduler", "unet", "vae", "text_encoder"])
def test_a_component_replaced_in_the_callers_pipeline_is_followed(name: str) -> None:
    quick = {**QUICK, "iterations": 1}
    pipe = tiny_sd()
    with quick_explainer(pipe=pipe) as explainer:
        explainer.explain("boat", **quick)
        other = {
            "scheduler": lambda: EulerDiscreteScheduler.from_config(pipe.scheduler.config),
            "unet": lambda: seeded(lambda: tiny_unet(16), seed=1),
            "vae": lambda: seeded(tiny_vae, seed=1),
            "text_encoder": lambda: seeded(lambda: type(pipe.text_encoder)(pipe.text_encoder.config), seed=1),
        }
        setattr(pipe, name, other[name]().eval() if name != "scheduler" else other[name]())
        followed = explainer.explain("boat", **quick)
    with quick_explainer(pipe=pipe) as fresh:
        assert_same_result(followed, fresh.explain("boat", **quick))
