"""The activation of a unit as a target, and which axis of a layer's output its units lie along."""

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
"""Axes of an output whose channel axis can be found; with ``channel=`` there may be more."""


class Layout(NamedTuple):
    """What a layer's modules say of its output.

    Attributes:
        own: channel axis that the kind of the layer itself decides, 1 or -1; None if it decides none.
        inside: channel axis that all its parts, or else those of the nearest module around it, agree on.
        units: how many units the layer or its last part with a number says that it puts out.
    """

    own: int | None = None
    inside: int | None = None
    units: int | None = None


@dataclass(frozen=True)
class Neuron(Target):
    """The activation of a unit: the mean over positions of channel ``unit`` in a layer's output.

    Channels lie along axis 1 of [B, C, H, W], along the last axis of [B, T, D] and [B, D], and along the last axis of
    [B, H, W, C] as Swin and ConvNeXt put it out; the kinds of the layer's modules, the number of units that they give,
    and the shape tell which. Where they do not, ``channel`` has to.

    Args:
        layer: dotted name of a module of the classifier, or the module.
        unit: number of the channel or feature, from 0.
        channel: axis of the layer's output along which its units lie, not 0, which is the batch; None to find it.

    Raises:
        TypeError: a layer that is neither name nor module, a unit or channel that is no whole number.
        ValueError: a negative unit, the batch as channel; when called, an output with fewer units or axes, one that is
            not of one row for each image, or one whose channel axis cannot be known.

    Source: DiffExplainer (arXiv 2404.02618), equation 4.
    """

    layer: str | nn.Module
    unit: int
    channel: int | None = None
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

    @property
    def layers(self) -> tuple[str | nn.Module, ...]:
        return (self.layer,)

    def bind(self, classifier: Bindable) -> Target:
        """Return a copy with the layer's dotted name; the unit is checked where the module says how many it has.

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
        axis = self._axis(output, response.pixels)
        if self.unit >= output.shape[axis]:
            raise _unknown_unit(str(self.layer), self.unit, output.shape[axis])
        picked = output.select(axis, self.unit)
        return picked.flatten(1).mean(1) if output.ndim > 2 else picked

    def _axis(self, output: Tensor, pixels: Tensor) -> int:
        batch, _, *picture = pixels.shape
        shape = list(output.shape)
        if self.channel is not None:
            if not -output.ndim < self.channel < output.ndim:
                raise wrong_value("channel", f"an axis of the output {shape} of {self.layer}", self.channel)
        elif not 2 <= output.ndim <= _MOST_AXES:
            wanted = "shape [B, C, H, W], [B, H, W, C], [B, T, D] or [B, D], or channel= with the axis of its units"
            raise wrong_value(f"output of {self.layer}", wanted, shape)
        if shape[0] != batch:
            wanted = f"one row for each of the {batch} images first"
            raise wrong_value(f"output of {self.layer}", wanted, f"shape {shape}")
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
        return f"Neuron({layer}, {self.unit}{'' if self.channel is None else f', channel={self.channel}'})"


def channel_axis(shape: Sequence[int], layout: Layout, picture: Sequence[int]) -> int | None:
    """Return the axis of an output's channels, None if nothing tells.

    Args:
        shape: of the output, the batch first; two to four axes.
        layout: what the layer's modules say.
        picture: height and width of the pictures.
    """
    if len(shape) == 2:
        return _FIRST
    if layout.own is not None:
        return layout.own
    fits = [axis for axis in (_FIRST, _LAST) if shape[axis] == layout.units]
    if len(shape) == 3:  # tokens, unless the units say that positions come last
        return _FIRST if fits == [_FIRST] else _LAST
    _, first, middle, last = shape
    # Height and width are the two neighbours in the ratio of the picture's.
    like = [axis for axis, sides in ((_FIRST, (middle, last)), (_LAST, (first, middle))) if _are_like(sides, picture)]
    said = {found[0] for found in (fits, like) if len(found) == 1}
    if len(said) == 1:
        return said.pop()
    return layout.inside if not said or layout.inside in said else None


def _are_like(sides: tuple[int, int], picture: Sequence[int]) -> bool:
    """Whether two sides are in the ratio of a picture's height and width, up to the rounding of one of them."""
    (height, width), (down, across) = picture, sides
    return down == across if height == width else abs(down * width - across * height) < max(height, width)


def layout_of(model: nn.Module, name: str = "") -> Layout:
    """Return what modules say of a layer's output.

    Args:
        model: the module that holds the layer, or the layer.
        name: dotted name of the layer in it, "" for the module itself.
    """
    around = [model]
    for part in name.split(".") if name else ():
        around.append(around[-1].get_submodule(part))
    near = around[1:] or around  # the model as a whole has a head, which is of another kind than what is before it
    votes = ({_vote(part) for part in module.modules()} - {None} for module in reversed(near))
    nearest = next((found for found in votes if found), set())
    told = [units for part in around[-1].modules() if (units := units_of(part)) is not None]
    inside = nearest.pop() if len(nearest) == 1 else None
    return Layout(_vote(around[-1]), inside, told[-1] if told else None)


def _vote(module: nn.Module) -> int | None:
    """Return the channel axis of the outputs of a kind of module, None if it has none of its own."""
    ordered = getattr(module, "data_format", None)  # what layers that can do both are told
    if ordered in ("channels_first", "channels_last"):
        return _FIRST if ordered == "channels_first" else _LAST
    if type(module) in (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention):
        return _LAST
    spatial = type(module).__name__.endswith(("1d", "2d", "3d")) and not any(module.children())
    return _FIRST if spatial or isinstance(module, nn.GroupNorm) else None


def units_of(module: nn.Module) -> int | None:
    """Return how many units a module puts out, as far as it says so without being run."""
    shape = getattr(module, "normalized_shape", None)
    keys = ("out_channels", "out_features", "num_features", "num_channels")
    found = [getattr(module, key, None) for key in keys] + ([shape[-1]] if shape else [])
    return next((units for units in found if isinstance(units, int)), None)


def _unknown_unit(layer: str, unit: int, units: int) -> UnknownNameError:
    nearest = ", ".join(str(known) for known in range(max(0, units - 5), units))
    wanted = f"one of {units} units of {layer}, nearest: {nearest}"
    return UnknownNameError(describe("unit", wanted, f"{unit} (units are counted from 0 to {units - 1})"))
