"""The activation of a unit as a target, and the axis of the units in a layer's output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor, nn

from diffexplain_fast.errors import UnknownNameError, describe, wrong_type, wrong_value
from diffexplain_fast.targets.base import Bindable, Response, Target
from diffexplain_fast.targets.classes import ClassProbability
from diffexplain_fast.targets.numbers import whole_number

_FIRST, _LAST = 1, -1
_MOST_AXES = 4
"""Most axes of an output whose channel axis can be inferred; with ``channel=`` it may have more."""
_TEXT = re.compile(r"(.+):([0-9]{1,18})((?:,[0-9]{1,18})*)", re.DOTALL)
"""Layer, unit, and a position. No layer has more units than 18 digits, and Python refuses to read very long numbers."""


class Layout(NamedTuple):
    """The layout of a layer's output, as far as its modules show it.

    Attributes:
        own: channel axis, 1 or -1, by the kind of the layer; None if the kind does not decide.
        inside: channel axis on which all submodules agree, or else those of the nearest module around the layer.
        units: number of units of the layer, or of its last submodule that has such a number.
    """

    own: int | None = None
    inside: int | None = None
    units: int | None = None


@dataclass(frozen=True)
class Neuron(Target):
    """The activation of a unit: channel ``unit`` in a layer's output, its mean over positions or its value at one.

    Channels lie along axis 1 of [B, C, H, W], along the last axis of [B, T, D] and [B, D], and along the last axis of
    [B, H, W, C], as in Swin and ConvNeXt. The kinds of the layer's modules, their numbers of units, and the shape
    decide; if they do not, ``channel`` must.

    Args:
        layer: dotted name of a module of the classifier, or the module.
        unit: number of the channel or feature, from 0.
        channel: axis of the units in the layer's output, not 0, which is the batch; None to infer it.
        at: position, such as (row, column) in [B, C, H, W] or (token,) in [B, T, D]; None for the mean over all. With
            channels first, ``Neuron(layer, 17, at=(3, 2))`` is captum's ``neuron_selector=(17, 3, 2)``.

    Raises:
        TypeError: a layer that is neither name nor module, a unit, channel or position that is not a whole number.
        ValueError: a negative unit, the batch as channel; when called, an output with fewer units or axes, without
            one row for each image, or whose channel axis cannot be inferred; a position that the output does not have.

    Source: DiffExplainer (arXiv 2404.02618), equation 4.
    """

    layer: str | nn.Module
    unit: int
    channel: int | None = None
    at: Sequence[int] | None = field(default=None, kw_only=True)
    text: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    layout: Layout | None = field(default=None, repr=False, compare=False, kw_only=True)
    recordable = True

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str | nn.Module):
            raise wrong_type("layer", "a dotted name or a module", self.layer)
        unit = whole_number("unit", self.unit)
        if unit < 0:
            raise wrong_value("unit", "a number from 0", unit)
        object.__setattr__(self, "unit", unit)
        if self.channel is not None:
            channel = whole_number("channel", self.channel)
            if channel == 0:
                raise wrong_value("channel", "an axis of the output that is not 0, the batch", channel)
            object.__setattr__(self, "channel", channel)
        if self.at is not None:
            if not isinstance(self.at, Sequence) or isinstance(self.at, str):
                raise wrong_type("at", "a position such as (row, column)", self.at)
            at = tuple(whole_number("at", place) for place in self.at)
            if not at or min(at) < 0:
                raise wrong_value("at", "a position such as (row, column), counted from 0", self.at)
            object.__setattr__(self, "at", at)

    @property
    def layers(self) -> tuple[str | nn.Module, ...]:
        return (self.layer,)

    def bind(self, classifier: Bindable) -> Target:
        """Return a copy with the layer's dotted name; the unit is checked if the module states its number of units.

        A text "layer:unit" that is a label of the classifier means that class.
        """
        if self.text is not None and self.text in (classifier.labels or ()):
            return ClassProbability(self.text, bare=True).bind(classifier)
        name, units = self._resolved(classifier), classifier.layer_units(self.layer)
        if self.channel is None and units is not None and self.unit >= units:
            raise _unknown_unit(name, self.unit, units)
        model = classifier.model
        return replace(self, layer=name, layout=layout_of(model, name) if isinstance(model, nn.Module) else None)

    def _resolved(self, classifier: Bindable) -> str:
        try:
            return str(classifier.resolve_layer(self.layer))
        except ValueError as error:
            if self.text is None or classifier.labels is None:
                raise
            try:
                classifier.label_index(self.text)
            except ValueError as other:
                raise UnknownNameError(f"{error}; and as a label: {other}") from error
            raise

    def __call__(self, response: Response) -> Tensor:
        output = response.activations[self.layer]
        axis = self._axis(output, response.pixels, apart=self.layer in response.apart)
        if self.unit >= output.shape[axis]:
            raise _unknown_unit(str(self.layer), self.unit, output.shape[axis])
        picked = output.select(axis, self.unit)
        if self.at is not None:
            return self._at_one(picked, self.at)
        return picked.flatten(1).mean(1) if output.ndim > 2 else picked

    def _at_one(self, picked: Tensor, at: Sequence[int]) -> Tensor:
        positions = list(picked.shape[1:])
        if len(at) != len(positions) or any(place >= size for place, size in zip(at, positions, strict=True)):
            wanted = (
                f"a position among the {positions} of {self.layer}" if positions else "None: the unit has one value"
            )
            raise wrong_value("at", wanted, at)
        index: tuple[slice | int, ...] = (slice(None), *at)
        return picked[index]

    def _axis(self, output: Tensor, pixels: Tensor, *, apart: bool) -> int:
        batch, _, *picture = pixels.shape
        shape = list(output.shape)
        if self.channel is not None:
            if not -output.ndim < self.channel < output.ndim:
                raise wrong_value("channel", f"an axis of the output {shape} of {self.layer}", self.channel)
        elif not 2 <= output.ndim <= _MOST_AXES:
            wanted = "shape [B, C, H, W], [B, H, W, C], [B, T, D] or [B, D], or channel= with the axis of its units"
            raise wrong_value(f"output of {self.layer}", wanted, shape)
        if shape[0] != batch or apart:
            wanted = f"one row for each of the {batch} images first"
            got = f"shape {shape}" + (", whose first axis counts something else" if shape[0] == batch else "")
            raise wrong_value(f"output of {self.layer}", wanted, got)
        if self.channel is not None:
            return self.channel
        layout = self.layout
        if layout is None:
            layout = layout_of(self.layer) if isinstance(self.layer, nn.Module) else Layout()
        axis = channel_axis(shape, layout, picture)
        if axis is None:
            wanted = f"the axis of the units in the output {shape} of {self.layer}, which its modules leave open"
            raise wrong_value("channel", wanted, None)
        return axis

    def describe(self) -> str:
        layer = self.layer if isinstance(self.layer, str) else type(self.layer).__name__
        options = {"channel": self.channel, "at": self.at}
        said = "".join(f", {name}={value}" for name, value in options.items() if value is not None)
        return f"Neuron({layer}, {self.unit}{said})"


def read_neuron(text: str, *, may_be_label: bool = False) -> Neuron | None:
    """Return the neuron that a text names as "LAYER:UNIT" or "LAYER:UNIT,ROW,COLUMN", None for another text.

    Args:
        text: text of the user.
        may_be_label: True if the text means a class where the classifier has such a label.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    at = tuple(int(place) for place in found[3].split(",")[1:])
    return Neuron(found[1], int(found[2]), at=at or None, text=text if may_be_label else None)


def channel_axis(shape: Sequence[int], layout: Layout, picture: Sequence[int]) -> int | None:
    """Return the axis of an output's channels, or None if it cannot be inferred.

    Args:
        shape: shape of the output, the batch first; two to four axes.
        layout: layout of the output, as far as the layer's modules show it.
        picture: height and width of the pictures.
    """
    if len(shape) == 2:
        return _FIRST
    if layout.own is not None:
        return layout.own
    fits = [axis for axis in (_FIRST, _LAST) if shape[axis] == layout.units]
    if len(shape) == 3:  # tokens, unless the number of units shows that positions come last
        return _FIRST if fits == [_FIRST] else _LAST
    _, first, middle, last = shape
    # Height and width are the two neighbouring axes with the ratio of the picture's sides.
    like = [axis for axis, sides in ((_FIRST, (middle, last)), (_LAST, (first, middle))) if _are_like(sides, picture)]
    answers = {axes[0] for axes in (fits, like) if len(axes) == 1}
    if len(answers) == 1:
        return answers.pop()
    return layout.inside if not answers or layout.inside in answers else None


def _are_like(sides: tuple[int, int], picture: Sequence[int]) -> bool:
    """Return whether two sides have the ratio of a picture's height and width, up to the rounding of one side."""
    (height, width), (down, across) = picture, sides
    return down == across if height == width else abs(down * width - across * height) < max(height, width)


def layout_of(model: nn.Module, name: str = "") -> Layout:
    """Return the layout of a layer's output, as far as its modules show it.

    Args:
        model: the module that holds the layer, or the layer.
        name: dotted name of the layer in it, "" for the module itself.
    """
    around = [model]
    for child in name.split(".") if name else ():
        around.append(around[-1].get_submodule(child))
    near = around[1:] or around  # without the whole model, whose head is of another kind than its other layers
    votes = ({_vote(child) for child in module.modules()} - {None} for module in reversed(near))
    nearest = next((axes for axes in votes if axes), set())
    numbers = [units for child in around[-1].modules() if (units := units_of(child)) is not None]
    inside = nearest.pop() if len(nearest) == 1 else None
    return Layout(_vote(around[-1]), inside, numbers[-1] if numbers else None)


def _vote(module: nn.Module) -> int | None:
    """Return the channel axis by the kind of a module, or None if the kind does not decide."""
    ordered = getattr(module, "data_format", None)  # the option of layers that support both
    if ordered in ("channels_first", "channels_last"):
        return _FIRST if ordered == "channels_first" else _LAST
    if type(module) in (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention):
        return _LAST
    spatial = type(module).__name__.endswith(("1d", "2d", "3d")) and not any(module.children())
    return _FIRST if spatial or isinstance(module, nn.GroupNorm) else None


def units_of(module: nn.Module) -> int | None:
    """Return the number of units of a module, or None if it does not say it without a run."""
    shape = getattr(module, "normalized_shape", None)
    keys = ("out_channels", "out_features", "num_features", "num_channels")
    numbers = [getattr(module, key, None) for key in keys] + ([shape[-1]] if shape else [])
    return next((units for units in numbers if isinstance(units, int)), None)


def _unknown_unit(layer: str, unit: int, units: int) -> UnknownNameError:
    nearest = ", ".join(str(known) for known in range(max(0, units - 5), units))
    wanted = f"one of {units} units of {layer}, nearest: {nearest}"
    return UnknownNameError(describe("unit", wanted, f"{unit} (units are counted from 0 to {units - 1})"))
