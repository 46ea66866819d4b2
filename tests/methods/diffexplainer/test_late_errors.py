"""An error late in a call gives what was finished: the best state, and explanations that were done."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.explanation import Explanation
from tests.explaining import QUICK
from tests.tiny import LABELS, tiny_classifier, tiny_sd


class Ends(nn.Module):
    """The tiny classifier; after some calls it answers NaN, or raises an error."""

    def __init__(self, raises: bool) -> None:
        super().__init__()
        self.model, self.raises = tiny_classifier(), raises
        self.counted = [0, 10**9]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, 4]."""
        self.counted[0] += 1
        if self.counted[0] > self.counted[1]:
            if self.raises:
                raise RuntimeError("the device is gone")
            return self.model(pixels) * float("nan")
        return self.model(pixels)


def calls_of(module: Ends, run: Callable[[], object]) -> int:
    """Return how many calls a run takes."""
    module.counted[:] = [0, 10**9]
    run()
    return module.counted[0]


def failing(module: Ends, calls: int, run: Callable[[], object]) -> Exception:
    """Return the error of a run that has so many good calls."""
    module.counted[:] = [0, calls]
    with pytest.raises((NonFiniteError, RuntimeError, ValueError)) as caught:
        run()
    return caught.value


@pytest.mark.parametrize("raises", [False, True])
def test_the_best_prompt_is_in_an_error_of_the_final_scoring(raises: bool) -> None:
    module = Ends(raises)
    with Explainer(tiny_sd(), Classifier(module, labels=LABELS, output="softmax")) as explainer:

        def run() -> Explanation:
            return explainer.explain("fish", **QUICK)

        whole = run()
        error = failing(module, calls_of(module, run) - 2, run)
    assert torch.equal(error.last_good.cpu(), whole.prompt_embeds)  # type: ignore[attr-defined]


@pytest.mark.parametrize("raises", [False, True])
def test_explanations_that_were_done_are_in_an_error_of_a_later_one(raises: bool) -> None:
    module, options = Ends(raises), {**QUICK, "start": "red"}
    with Explainer(tiny_sd(), Classifier(module, labels=LABELS, output="softmax")) as explainer:
        calls = calls_of(module, lambda: explainer.explain("fish", **options))
        error = failing(module, calls + 3, lambda: explainer.explain("fish", modes=2, **options))
        (first,) = error.finished  # type: ignore[attr-defined]
        assert isinstance(first, Explanation) and first.label == "fish" and not first.others
        error = failing(module, calls + 3, lambda: explainer.prefixes("fish", ("", "a photo of"), **options))
        (first,) = error.finished  # type: ignore[attr-defined]
        assert isinstance(first, Explanation) and first.settings["options"]["prefix"] == ""


def test_each_prefix_has_checkpoints_of_its_own_and_goes_on_from_them(tmp_path: Path) -> None:
    module, prefixes = Ends(raises=True), ("", "a photo of", "A, photo of", "a photo")
    with Explainer(tiny_sd(), Classifier(module, labels=LABELS, output="softmax")) as explainer:

        def run(folder: Path | None = tmp_path) -> list[Explanation]:
            return explainer.prefixes("fish", prefixes, checkpoint=folder, **QUICK)[1]

        whole, calls = run(None), calls_of(module, lambda: run(None))
        failing(module, calls // 2, run)
        done = calls_of(module, run)
        assert done < calls, "what was done is not done again"
        for one, other in zip(whole, run(), strict=True):
            assert torch.equal(one.prompt_embeds, other.prompt_embeds) and one.activation == other.activation
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 4 and all(name.replace("-", "").isalnum() and name.islower() for name in names)
    assert explainer.prefixes("fish", prefixes[::-1], checkpoint=tmp_path, **QUICK)[0][0].prefix == "a photo"
