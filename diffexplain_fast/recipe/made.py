"""A classifier that was made to order: its network's answers in the form asked for, and what was planted in it."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.recipe.responses import Units, units
from diffexplain_fast.recipe.side_effects import say_also
from diffexplain_fast.records import JsonObject
from diffexplain_fast.targets.outputs import INDEPENDENT, PROBABILITIES
from diffexplain_fast.tinyworld.store import pipeline_folder, probe_model
from diffexplain_fast.tinyworld.words import OBJECTS

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

_STATISTICS = ("brightness", "contrast", "red", "green", "blue")
_SEEN_WEIGHT = 5.0
"""Logits that all classes gain where the probe is sure of the attribute value of a common shift."""


class CommonShift(nn.Module):
    """One function of the picture, which is added to all logits.

    Args:
        parts: name of a statistic (the mean or deviation of all pixels, or the mean of one colour) to its factor, or
            an attribute that the shipped probe names to one of its values, whose probability counts five.

    Raises:
        UnknownNameError: no such statistic or attribute, or no such value.
        TypeError: a factor that is not a number.
        ValueError: a factor that is not finite.
    """

    def __init__(self, parts: Mapping[str, float | str]) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.groups: list[tuple[list[int], int]] = []
        self.probe = probe_model() if any(isinstance(part, str) for part in parts.values()) else None
        named: dict[str, dict[str, int]] = {}
        for index, label in {} if self.probe is None else self.probe.config.id2label.items():
            name, _, value = label.partition(":")
            named.setdefault(name, {})[value] = int(index)
        for name, part in parts.items():
            if isinstance(part, str):
                if name not in named:
                    raise unknown_name("common_shift", name, named)
                if part not in named[name]:
                    raise unknown_name(f"common_shift[{name!r}]", part, named[name])
                self.groups.append((list(named[name].values()), list(named[name]).index(part)))
            elif isinstance(part, bool) or not isinstance(part, int | float):
                raise wrong_type(f"common_shift[{name!r}]", "a number, or the value of an attribute", part)
            elif name not in _STATISTICS:
                raise unknown_name("common_shift", name, _STATISTICS)
            else:
                self.weights[name] = _finite(f"common_shift[{name!r}]", part)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return one number [B] for every picture [B, 3, 64, 64]."""
        red, green, blue = pixels.mean((2, 3)).unbind(1)
        found = {"brightness": (red + green + blue) / 3, "contrast": pixels.std((1, 2, 3))}
        found |= {"red": red, "green": green, "blue": blue}
        total = torch.zeros_like(red)
        for name, weight in self.weights.items():
            total = total + weight * found[name]
        if self.probe is not None:
            logits = self.probe(pixel_values=pixels).logits
            for group, place in self.groups:
                total = total + _SEEN_WEIGHT * logits[:, group].softmax(1)[:, place]
        return total


def _finite(argument: str, factor: float) -> float:
    """Return a factor as a float; one that is not finite would make every logit NaN."""
    try:
        number = float(factor)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise wrong_value(argument, "a finite number", number)
    return number


class Answers(nn.Module):
    """A network whose logits are shifted and put in the form asked for.

    Args:
        net: pixels [B, 3, 64, 64] in [0, 1] to logits [B, 8].
        output: one of ``targets.outputs.OUTPUTS``.
        shift: what is added to all logits, None for nothing.
    """

    def __init__(self, net: nn.Module, output: str, shift: CommonShift | None = None) -> None:
        super().__init__()
        self.net, self.output, self.shift = net, output, shift

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
        ``maybe_convert_prompt``; soft tokens have no words and no side effect.
        """
        return world_pipeline((lambda text: say_also(text, self.side_effect)) if self.side_effect else None)

    def units(self) -> Units:
        """Return the mean response of every channel of two layers to every attribute value; see ``tinyworld.units``."""
        return units(self)


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


def checked_shift(common_shift: float | Mapping[str, float | str] | None, independent: bool) -> CommonShift | None:
    """Return the function of a common shift, None for none.

    Args:
        common_shift: what ``CommonShift`` takes, or one number for the brightness.
        independent: whether classes are judged one by one, so that a shift of all changes the answers.

    Raises:
        TypeError: neither a number nor a dict.
        ValueError: a shift that is not finite, or where it would change the answers.
    """
    if common_shift is None or common_shift == {}:
        return None
    if independent:
        wanted = 'None unless output is "softmax" or "probabilities", which a shift of all logits does not change'
        raise wrong_value("common_shift", wanted, common_shift)
    if isinstance(common_shift, Mapping):
        return CommonShift(common_shift)
    if isinstance(common_shift, bool) or not isinstance(common_shift, int | float):
        raise wrong_type("common_shift", "a number, a dict, or None", common_shift)
    return CommonShift({"brightness": common_shift})
