"""A function of the picture that is added to all logits of a made classifier."""

import math
from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.records import JsonObject
from diffexplain_fast.storage import sha256_file
from diffexplain_fast.targets.outputs import INDEPENDENT
from diffexplain_fast.tinyworld.store import WEIGHTS, probe_model

_STATISTICS = ("brightness", "contrast", "red", "green", "blue")
_SEEN_WEIGHT = 5.0
"""Logits that all classes gain where the probe is sure of the attribute value of a common shift."""
_MOST = 100.0
"""Most that a shift may add: float32 rounds a number below 128 by 4e-6, which centring at most doubles."""
_MOST_OF_PROBABILITIES = 7.0
"""The same where every class has a probability: beyond log-odds of about 10, float32 rounds a probability so near to
one that its log-odds change by more than 1e-3."""


class CommonShift(nn.Module):
    """One function of the picture, which is added to all logits.

    Args:
        parts: name of a statistic (the mean or deviation of all pixels, or the mean of one colour) to its factor, or
            an attribute that the shipped probe names to one of its values, whose probability counts five.
        output: one of ``targets.outputs.OUTPUTS``, which decides how much may be added.

    Raises:
        UnknownNameError: no such statistic or attribute, or no such value.
        TypeError: a factor that is not a number.
        ValueError: a factor that is not finite, or factors that add up to more than float32 can add.
    """

    def __init__(self, parts: Mapping[str, float | str], output: str) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.seen: dict[str, str] = {}
        self.groups: list[tuple[list[int], int]] = []
        self.probe = probe_model() if any(isinstance(part, str) for part in parts.values()) else None
        named: dict[str, dict[str, int]] = {}
        for index, label in {} if self.probe is None else self.probe.config.id2label.items():
            name, _, value = label.partition(":")
            named.setdefault(name, {})[value] = int(index)
        for name, part in parts.items():
            argument = f"common_shift[{name!r}]"
            if isinstance(part, str):
                if name not in named:
                    raise unknown_name("common_shift", name, named)
                if part not in named[name]:
                    raise unknown_name(argument, part, named[name])
                self.groups.append((list(named[name].values()), list(named[name]).index(part)))
                self.seen[name] = part
            else:
                number = _finite(argument, "a number, or the value of an attribute", part)
                if name not in _STATISTICS:
                    raise unknown_name("common_shift", name, _STATISTICS)
                self.weights[name] = number
        _check_sum(sum(map(abs, self.weights.values())) + _SEEN_WEIGHT * len(self.groups), output)

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

    @property
    def parts(self) -> JsonObject:
        """The factors and attribute values that the shift was made of."""
        return {**self.weights, **self.seen}

    def described(self) -> JsonObject:
        """Return everything that decides the function, as JSON values."""
        probe = {} if self.probe is None else {"probe": sha256_file(WEIGHTS / "probe" / "model.safetensors")}
        return {**self.parts, **probe}


def _check_sum(most: float, output: str) -> None:
    """Refuse what would be rounded so much that it changes more than the shift says."""
    if output == INDEPENDENT and most > _MOST_OF_PROBABILITIES:
        wanted = (
            f"factors that add up to at most {_MOST_OF_PROBABILITIES:g} (an attribute value counts {_SEEN_WEIGHT:g}) "
            "for independent probabilities, because float32 rounds those of more to one"
        )
        raise wrong_value("common_shift", wanted, most)
    if most > _MOST:
        wanted = (
            f"factors that add up to at most {_MOST:g} (an attribute value counts {_SEEN_WEIGHT:g}), because float32 "
            "can add no more without a change of centred logits by more than 1e-5"
        )
        raise wrong_value("common_shift", wanted, most)


def as_float(argument: str, wanted: str, value: object) -> float:
    """Return a number of any library, such as numpy's, as a float; infinity for one of more than 308 digits.

    Raises:
        TypeError: no number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong_type(argument, wanted, value)
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _finite(argument: str, wanted: str, value: object) -> float:
    """Return a factor as a float; one that is not finite would make every logit NaN."""
    number = as_float(argument, wanted, value)
    if not math.isfinite(number):
        raise wrong_value(argument, "a finite number", number)
    return number


def checked_shift(common_shift: float | Mapping[str, float | str] | None, output: str) -> CommonShift | None:
    """Return the function of a common shift, None for none.

    Args:
        common_shift: what ``CommonShift`` takes, or one number for the brightness.
        output: one of ``targets.outputs.OUTPUTS``.

    Raises:
        TypeError: neither a number nor a dict.
        ValueError: a shift that is not finite, or too large; see ``CommonShift``.
    """
    if isinstance(common_shift, Mapping):
        return CommonShift(common_shift, output) if common_shift else None
    if common_shift is None:
        return None
    number = _finite("common_shift", "a number, a dict, or None", common_shift)
    return CommonShift({"brightness": number}, output)
