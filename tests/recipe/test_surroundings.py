"""The caller's settings of torch decide nothing about a made classifier, and are afterwards as they were."""

from contextlib import ExitStack, contextmanager

import pytest
import torch

import diffexplain_fast as dx
from diffexplain_fast.models.fingerprint import weights_sha256
from diffexplain_fast.recipe import kept, planting
from diffexplain_fast.recipe import truth as truths
from diffexplain_fast.recipe.planting import Planted
from diffexplain_fast.tinyworld.words import OBJECTS
from tests.quickly_made import CUES, PIXELS

pytestmark = pytest.mark.usefixtures("few")


@contextmanager
def put(read, write, value):
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def default_dtype(dtype):
    return put(torch.get_default_dtype, torch.set_default_dtype, dtype)


def threads(count):
    return put(torch.get_num_threads, torch.set_num_threads, count)


SETTINGS = {
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "no device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "threads": lambda: threads(3),
}


def settings():
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_a_classifier_is_trained_and_read_whatever_the_settings_are(name, monkeypatch, tmp_path):
    arguments = {"side_effect": {"desert": {"companion": "sun"}}, "common_shift": {"background": "snow"}}
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path / "usual"))
    usual = dx.make_classifier(CUES, 11, **arguments)
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path / "other"))
    with SETTINGS[name]():
        before = settings()
        made = [dx.make_classifier(CUES, 11, **arguments) for _ in ("trained", "read")]
        pipeline = made[0].pipeline()
        assert settings() == before
    assert len([*tmp_path.rglob("model.safetensors")]) == 2
    for one in made:
        assert weights_sha256(model=one.model) == weights_sha256(model=usual.model)
        weights = [*one.model.parameters(), *one.model.buffers(), *one.model.shift.parameters()]
        assert not any(weight.is_inference() or weight.device.type != "cpu" for weight in weights)
        assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.float32}
        assert torch.equal(one(PIXELS), usual(PIXELS))
    assert not any(weight.is_inference() for weight in pipeline.unet.parameters())


@pytest.mark.parametrize("model", ["cnn", "vit"])
def test_one_seed_gives_one_network_with_any_number_of_threads(model, monkeypatch):
    counts, fit = [], planting.fit
    monkeypatch.setattr(
        planting, "fit", lambda *args, **more: counts.append(torch.get_num_threads()) or fit(*args, **more)
    )
    plan, found = planting.PLAN._replace(steps=3, batch=16), set()
    for count in (1, 2):
        with threads(count):
            net = planting.train_planted(Planted({}, model=model), plan, 16)
            assert torch.get_num_threads() == count
            found.add(weights_sha256(net=net))
    assert len(found) == 1 and counts == [1, 1]


def test_a_truth_is_measured_with_one_thread_and_without_autocast(monkeypatch):
    seen = []

    def measure(*_):
        seen.append((torch.get_num_threads(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype()))
        return {label: {"attributes": [], "interactions": [], "unnamed": []} for label in OBJECTS}

    monkeypatch.setattr(truths, "measure_truth", measure)
    with ExitStack() as stack:
        for name in ("threads", "autocast", "float64"):
            stack.enter_context(SETTINGS[name]())
        dx.make_classifier({}, 12)
    assert seen == [(1, False, torch.float32)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_settings_are_as_before_after_an_error_too(error, monkeypatch):
    def fail(*_, **__):
        raise error("planted")

    monkeypatch.setattr(planting, "fit", fail)
    with ExitStack() as stack:
        for name in ("threads", "inference mode", "float64"):
            stack.enter_context(SETTINGS[name]())
        before = settings()
        with pytest.raises(error, match="planted"):
            dx.make_classifier({}, 13)
        assert settings() == before


def test_what_decides_the_settings_decides_the_key():
    assert {"surroundings.py", "planting.py"} <= {path.name for path in kept._CODE}
