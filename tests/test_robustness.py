"""Interruptions, failures and repetition: equal bits, unchanged modules of the user, and no leaks."""

import gc
import math
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.errors import NonFiniteError, StorageError
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.runs.progress import Progress
from tests.explaining import QUICK, FailingClassifier, assert_same_result, quick_explainer, quick_explanation
from tests.tiny import TinyClassifier, seeded, tiny_classifier, tiny_sd

ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, signal, sys
from tests.explaining import quick_explanation
quick_explanation(checkpoint=sys.argv[1], callback=lambda event: event.iteration == 3 and event.phase == "optimise"
                  and os.kill(os.getpid(), signal.SIGKILL))
"""


def interrupt_at(iteration: int) -> Callable[[Progress], None]:
    def callback(event: Progress) -> None:
        if event.phase == "optimise" and event.iteration == iteration:
            signal.raise_signal(signal.SIGINT)

    return callback


def module_state(explainer: Explainer) -> list:
    """The state of the user's modules and of the process that an explanation might change."""
    pipeline = explainer.pipeline
    modules = [pipeline.unet, pipeline.vae, *pipeline.text_encoders, explainer.classifier.model]
    state: list = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]
    state += [torch.is_grad_enabled(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]
    for part in modules:
        for name, module in part.named_modules():
            hooks = [len(value) for key, value in sorted(vars(module).items()) if key.endswith("_hooks")]
            state.append((name, module.training, hooks, "forward" in vars(module)))
        state += [(name, p.requires_grad, p.grad, p._version) for name, p in part.named_parameters()]
        state += [(name, b._version) for name, b in part.named_buffers()]
    state += [(name, id(processor)) for name, processor in pipeline.unet.attn_processors.items()]
    state += [
        str(sorted(pipeline.scheduler.config.items(), key=str)),
        str(pipeline.scheduler.__dict__.get("timesteps")),
    ]
    return state


def unusual(explainer: Explainer) -> None:
    """Put the modules into unusual modes and flags, so that a missing restore is seen."""
    explainer.pipeline.unet.mid_block.train()
    explainer.pipeline.text_encoders[0].train()
    explainer.classifier.model.train()
    next(explainer.pipeline.vae.parameters()).requires_grad_(False)
    explainer.pipeline.unet.register_forward_hook(lambda *_: None)


def interrupt(logits: Tensor) -> Tensor:
    raise KeyboardInterrupt


def fail(logits: Tensor) -> Tensor:
    raise RuntimeError("planted")


def not_a_number(logits: Tensor) -> Tensor:
    return logits * float("nan")


def test_the_same_seed_gives_the_same_bits() -> None:
    options = {"start": "auto", "restarts": 1, "cutouts": 1, "noise": 0.01}
    assert_same_result(quick_explanation(**options), quick_explanation(**options))


@pytest.mark.parametrize("scored", [1, 2, 4])
def test_ctrl_c_while_screening_then_resume_screens_on_and_gives_the_same_bits(tmp_path: Path, scored: int) -> None:
    """Six words and the class name are three batches; then single words are scored again, then pairs."""
    options = {"start": "auto", "iterations": 1, "candidates": ["red", "blue", "snow", "desert", "tree", "house"]}

    def explain(stop_after: float) -> tuple[Explanation | None, int]:
        calls = 0

        def count(module: nn.Module, args: tuple) -> None:
            nonlocal calls
            calls += 1
            if calls > stop_after:
                raise KeyboardInterrupt

        model = tiny_classifier()
        model.register_forward_pre_hook(count)
        try:
            return quick_explanation(model, checkpoint=tmp_path / str(stop_after), **options), calls
        except KeyboardInterrupt:
            return None, calls

    expected, all_calls = explain(math.inf)
    probe = 5  # calls that settle the kind of output on four batches, and the answers that a checkpoint keeps
    assert explain(probe + scored)[0] is None
    assert [path.name for path in (tmp_path / str(probe + scored)).iterdir()] == ["screening.json"]
    (tmp_path / str(probe + scored)).rename(tmp_path / "resumed")
    (tmp_path / "inf").rename(tmp_path / "whole")
    (tmp_path / "resumed").rename(tmp_path / "inf")
    resumed, calls = explain(math.inf)
    assert resumed is not None and expected is not None
    assert calls == all_calls - scored, "what was scored before is not scored again"
    assert_same_result(resumed, expected)
    assert not (tmp_path / "inf" / "screening.json").exists()


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_ctrl_c_then_resume_gives_the_same_bits(tmp_path: Path, every: int) -> None:
    options = {"start": "auto", "restarts": 1, "iterations": 3, "checkpoint_every": every, "restart_below": 1.0}
    with pytest.raises(KeyboardInterrupt):
        quick_explanation(target="fish", checkpoint=tmp_path, callback=interrupt_at(4), **options)
    resumed = quick_explanation(target="fish", checkpoint=tmp_path, **options)
    assert_same_result(resumed, quick_explanation(target="fish", **options))
    assert len(resumed.history) > 3, "the interruption must fall into the second attempt"


@pytest.mark.slow
def test_kill_9_then_resume_gives_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "LATEST.json").exists()
    steps: list[int] = []
    resumed = quick_explanation(
        checkpoint=tmp_path, callback=lambda event: steps.append(event.iteration) if event.phase == "optimise" else None
    )
    assert steps[0] == 3, "the killed run had not yet saved its third step, and must not begin anew"
    assert_same_result(resumed, quick_explanation())


def test_a_damaged_newest_checkpoint_still_gives_the_same_bits(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick_explanation(checkpoint=tmp_path, callback=interrupt_at(3))
    newest = sorted(tmp_path.glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x00")
    assert_same_result(quick_explanation(checkpoint=tmp_path), quick_explanation())


def test_a_finished_run_is_only_scored_again(tmp_path: Path) -> None:
    first = quick_explanation(checkpoint=tmp_path)
    phases: set[str] = set()
    again = quick_explanation(checkpoint=tmp_path, callback=lambda event: phases.add(event.phase))
    assert_same_result(first, again)
    assert phases == {"evaluate"}


def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    quick_explanation(checkpoint=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"lr: 0\.05, not 0\.2"):
        quick_explanation(checkpoint=tmp_path, lr=0.2)
    with pytest.raises(ValueError, match="classifier_fingerprint"):
        quick_explanation(seeded(lambda: TinyClassifier(4).eval(), seed=5), checkpoint=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nan_names_the_iteration_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="iteration 2: loss") as caught:
        quick_explanation(FailingClassifier(3, not_a_number), checkpoint=tmp_path, checkpoint_every=100)
    assert isinstance(caught.value.last_good, Tensor) and caught.value.last_good.isfinite().all()
    resumed = quick_explanation(FailingClassifier(-1, not_a_number), checkpoint=tmp_path, checkpoint_every=100)
    assert_same_result(resumed, quick_explanation(FailingClassifier(-1, not_a_number)))


def test_nan_without_a_gradient_is_named_too() -> None:
    broken = tiny_classifier()
    with torch.no_grad():
        broken.head.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="iteration 0: scores"):
        quick_explanation(broken)


@pytest.mark.parametrize("happen", [None, fail, interrupt, not_a_number], ids=["success", "error", "ctrl-c", "nan"])
def test_an_explanation_leaves_every_module_unchanged(happen: Callable[[Tensor], Tensor] | None) -> None:
    module: nn.Module = tiny_classifier() if happen is None else FailingClassifier(2, happen)
    with quick_explainer(module) as explainer:
        unusual(explainer)
        before = module_state(explainer)
        try:
            explainer.explain("boat", **{**QUICK, "start": "auto"})
        except (RuntimeError, KeyboardInterrupt, NonFiniteError):
            assert happen is not None
        else:
            assert happen is None
        assert module_state(explainer) == before


def test_a_callback_that_fails_leaves_models_unchanged() -> None:
    with quick_explainer() as explainer:
        unusual(explainer)
        before = module_state(explainer)
        with pytest.raises(ZeroDivisionError):
            explainer.explain("boat", **QUICK, callback=lambda event: 1 // 0)
        assert module_state(explainer) == before


def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick_explanation(checkpoint=tmp_path, callback=interrupt_at(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        with pytest.raises(StorageError, match=str(tmp_path)):
            quick_explanation(checkpoint=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert_same_result(quick_explanation(checkpoint=tmp_path), quick_explanation())


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(item), Tensor) for item in gc.get_objects())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_fifty_runs_leak_nothing() -> None:
    tiny = {**QUICK, "iterations": 1, "num_inference_steps": 1, "n_score": 1, "n_images": 1, "n_validation": 1}
    pipe, classifier = tiny_sd(), tiny_classifier()

    def run(count: int) -> None:
        for _ in range(count):
            with quick_explainer(classifier, pipe) as explainer:
                assert isinstance(explainer.explain("boat", **tiny), Explanation)

    run(3)
    with quick_explainer(classifier, pipe) as explainer:
        before, tensors, memory = module_state(explainer), live_tensors(), resident_bytes()
        run(50)
        assert module_state(explainer) == before
        assert live_tensors() == tensors
        assert resident_bytes() - memory < 16 * 2**20
