"""A classifier that was made to order: its network's answers in the form asked for, and what was planted in it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe.responses import Units, units
from diffexplain_fast.recipe.shifts import CommonShift
from diffexplain_fast.recipe.side_effects import say_also
from diffexplain_fast.recipe.surroundings import usual_settings
from diffexplain_fast.records import JsonObject
from diffexplain_fast.targets.outputs import INDEPENDENT, PROBABILITIES
from diffexplain_fast.tinyworld.store import pipeline_folder
from diffexplain_fast.tinyworld.words import OBJECTS

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


class Answers(nn.Module):
    """A network whose logits are shifted and put in the form asked for.

    The layers of the classifier are those of the network. The shift looks at the picture with a network of its own,
    which is no part of what is explained: it has no name among the layers and no weights among the parameters.

    Args:
        net: pixels [B, 3, 64, 64] in [0, 1] to logits [B, 8].
        output: one of ``targets.outputs.OUTPUTS``.
        shift: what is added to all logits, None for nothing.
    """

    def __init__(self, net: nn.Module, output: str, shift: CommonShift | None = None) -> None:
        super().__init__()
        self.net, self.output = net, output
        self._shifts = () if shift is None else (shift,)  # in a tuple, where torch does not look for layers

    @property
    def shift(self) -> CommonShift | None:
        """What is added to all logits, None for nothing."""
        return next(iter(self._shifts), None)

    def further(self) -> JsonObject:
        """Return what makes the answers others than the network's own, as JSON values; {} for nothing."""
        found: JsonObject = {"output": self.output} if self.output in (PROBABILITIES, INDEPENDENT) else {}
        return found if self.shift is None else found | {"common shift": self.shift.described()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Answers":
        """Move or cast the shift with the network; torch calls this for ``to``, ``half`` and their like."""
        super()._apply(fn, recurse)
        for shift in self._shifts:
            shift._apply(fn, recurse)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Return numbers [B, 8] of pixels [B, 3, 64, 64] in [0, 1]."""
        logits: Tensor = self.net(pixels)
        if self.shift is not None:
            logits = logits + self.shift(pixels)[:, None]
        if self.output == PROBABILITIES:
            return logits.softmax(1)
        return logits.sigmoid() if self.output == INDEPENDENT else logits


class MadeClassifier(Classifier):
    """What ``make_classifier`` returns: a ``Classifier`` that knows what was planted in it.

    Args:
        model: the network in its final form.
        name: what results call it.
        truth: its measured truth.
        planted: the arguments that it was made with, as JSON values.
        side_effect: word to the attribute values that the word changes too, for ``pipeline``.

    Attributes:
        planted: see above.
        side_effect: see above.
    """

    def __init__(
        self,
        model: Answers,
        name: str,
        truth: JsonObject,
        planted: JsonObject,
        side_effect: Mapping[str, Mapping[str, str]],
    ) -> None:
        super().__init__(model, labels=OBJECTS, output=model.output, name=name, truth=truth)
        self.planted = planted
        self.side_effect = {word: dict(changes) for word, changes in side_effect.items()}

    def pipeline(self) -> "StableDiffusionPipeline":
        """Return the generator to explain this classifier with: that of the tiny world, with the side effect.

        A prompt with a word of the side effect is read as one that says the second things too, so their pictures show
        them. The generator is changed through the one method by which diffusers prepares every prompt,
        ``maybe_convert_prompt``; soft tokens have no words and no side effect. Pools and checkpoints of it are others
        than those of the generator without the side effect.
        """
        return world_pipeline((lambda text: say_also(text, self.side_effect)) if self.side_effect else None)

    def fingerprint(self) -> str:
        """Return the sha256 over all that decides the logits: the weights, and what is made of the network's answers.

        Where nothing is, as in classifiers without a shift under "softmax", "sigmoid" and "regression", it is that of
        any ``Classifier`` with the same weights.
        """
        model, plain = self.model, super().fingerprint()
        further = model.further() if isinstance(model, Answers) else {}
        text = f"{plain} {json.dumps(further, sort_keys=True)}"
        return hashlib.sha256(text.encode()).hexdigest() if further else plain

    def units(self) -> Units:
        """Return the mean response of every channel of two layers to every attribute value; see ``tinyworld.units``."""
        return units(self)


@usual_settings()
def world_pipeline(read: Callable[[str], str] | None = None) -> "StableDiffusionPipeline":
    """Return the tiny world's generator as a pipeline of diffusers.

    Args:
        read: of a prompt what is drawn in its place; None for the prompt itself. See ``MadeClassifier.pipeline``.
    """
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        pipeline_folder(), dtype=torch.float32, use_safetensors=True, local_files_only=True
    )

    def convert(prompt: str | list[str], tokenizer: object) -> str | list[str]:
        assert read is not None
        return read(prompt) if isinstance(prompt, str) else [read(text) for text in prompt]

    if read is not None:
        pipeline.maybe_convert_prompt = convert
    return pipeline
