"""Classifiers behind one interface: pixels in [0, 1] in, logits and activations out; nothing in them is changed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.models.fingerprint import weights_sha256
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.loading import load_parts
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.results.truth import checked_truths
from diffexplain_fast.targets import Response, whole_number


class Classifier:
    """Any model of pixels [B, 3, H, W] in [0, 1] that gives logits [B, C].

    The model runs in eval mode with frozen weights and is as before after every call. It stays on its device; pixels
    are cast to the dtype of its weights.

    Args:
        model: module or function that returns logits [B, C], or an object with such ``logits``.
        preprocess: differentiable function of pixels [B, 3, H, W] in [0, 1] to what the model takes; None if the model
            takes such pixels.
        labels: name of each class; two classes may share a name and are then told apart by index.
        name: what results call the classifier.
        truth: for each label, what is known about its features: a dict, whose ``"attributes"`` a report shows, a list
            of dicts with ``"attribute"``, ``"effect"`` and maybe ``"interval"`` and ``"role"``. Kept as JSON values.

    Attributes:
        model: the model as it was given.
        preprocess: the function as it was given.
        labels: names of the classes, None if they have none.
        name: what results call the classifier.
        truth: for each label, what is known about its features; None if nothing is.

    Raises:
        TypeError: a model or preprocess that cannot be called, labels that are not strings, a truth without keys or
            with a value that JSON has not.
        ValueError: no labels in a sequence of labels, a truth whose attributes have another structure.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        preprocess: Callable[[Tensor], Tensor] | None = None,
        labels: Sequence[str] | None = None,
        *,
        name: str | None = None,
        truth: dict | None = None,
    ) -> None:
        if not callable(model) or isinstance(model, type | Classifier):
            raise wrong_type("model", "a module or function of pixels", model)
        if preprocess is not None and (not callable(preprocess) or isinstance(preprocess, type)):
            raise wrong_type("preprocess", "a function of pixels, or None", preprocess)
        if name is not None and not isinstance(name, str):
            raise wrong_type("name", "a string, or None", name)
        self.model, self.preprocess, self.truth = model, preprocess, checked_truths(truth)
        self.labels = None if labels is None else _checked_labels(labels)
        self.name = name or getattr(model, "__qualname__", None) or type(model).__name__

    @classmethod
    @torch.inference_mode(False)
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "Classifier":
        """Load a published classifier with its own preprocessing and labels; no pickle is read that could run code.

        Args:
            source: "timm/<name>", "torchvision/<name>", "tinyworld/<name>", otherwise a folder or hub id of a
                transformers image classifier; a ``Path`` is always a folder.
            dtype: dtype of the weights.
            device: where to put them, the CPU if None.
            revision: branch, tag or commit of a hub id; for torchvision the name of the weights.
            local_files_only: do not ask the network.

        Raises:
            ImportError: timm or torchvision is not installed; the message says how to install it.
            TypeError: a source that is no string or path, a dtype that is not floating point.
            ValueError: no such model, or a folder that is no image classifier; the message says what is missing.
            UnsafeFileError: the weights are a pickle; nothing was read.
            CorruptFileError: a weight file is damaged.
            OSError: a hub id that is neither in the cache nor on the hub.
        """
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise wrong_type("dtype", "a floating point torch.dtype", dtype)
        parts = load_parts(source, revision=revision, local_files_only=local_files_only)
        model = parts.model.to(device or "cpu", dtype).eval()
        return cls(model, parts.preprocess, parts.labels, name=parts.name, truth=parts.truth)

    @property
    def modules(self) -> list[nn.Module]:
        """What of the model and its preprocessing is a torch module."""
        return [part for part in (self.model, self.preprocess) if isinstance(part, nn.Module)]

    @property
    def device(self) -> torch.device | None:
        """Device of the model's weights, None if it has none."""
        weight = next(self._weights(), None)
        return None if weight is None else weight.device

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return logits [B, C] of pixels [B, 3, H, W] in [0, 1]; differentiable in the pixels and nothing else.

        Raises:
            TypeError: pixels that are no tensor, or a model that returns no tensor.
            ValueError: pixels of wrong rank, channels, dtype or device; logits of another rank, or not one for each
                label; a model that passes no gradient to its pixels.
        """
        self._check_pixels(pixels)
        with frozen(*self.modules):
            seen = pixels if self.preprocess is None else self.preprocess(pixels)
            if not isinstance(seen, Tensor):
                raise wrong_type("preprocess", "a function that returns a tensor", seen)
            dtype = next((weight.dtype for weight in self._weights() if weight.is_floating_point()), seen.dtype)
            output = self.model(seen.to(dtype) if seen.is_floating_point() else seen)
        logits = getattr(output, "logits", output)
        self._check_logits(logits, pixels)
        return logits

    def respond(self, pixels: Tensor, layers: Iterable[str | nn.Module] = ()) -> Response:
        """Run the classifier and keep what some of its layers put out.

        Args:
            pixels: images [B, 3, H, W] in [0, 1].
            layers: dotted names or modules. A layer that runs several times gives its last output; of a tuple or dict
                the first tensor counts.

        Returns:
            Pixels, logits and the activations under the names or modules given, all differentiable in the pixels.

        Raises:
            UnknownNameError: a layer the model does not have.
            ValueError: a layer that did not run; otherwise as calling the classifier.
        """
        wanted = _checked_layers(layers)
        activations: dict[str | nn.Module, Tensor] = {}
        handles: list[Any] = []
        try:
            for layer in wanted:

                def keep(module: nn.Module, args: Any, output: Any, layer: str | nn.Module = layer) -> None:
                    activations[layer] = _first_tensor(output, layer).clone()  # the next module may work in place

                handles.append(self._submodule(layer).register_forward_hook(keep))
            logits = self(pixels)
        finally:
            for handle in handles:
                handle.remove()
        for layer in wanted:
            if layer not in activations:
                raise wrong_value("layer", "a module that runs when the model does", f"{layer}, which did not")
        return Response(pixels, logits, activations)

    def _weights(self) -> Iterator[Tensor]:
        if isinstance(self.model, nn.Module):
            yield from self.model.parameters()
            yield from self.model.buffers()

    def _check_pixels(self, pixels: Tensor) -> None:
        if not isinstance(pixels, Tensor):
            raise wrong_type("pixels", "a tensor [B, 3, H, W] in [0, 1]", pixels)
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0:
            raise wrong_value("pixels", "shape [B, 3, H, W] with at least one image", list(pixels.shape))
        if not pixels.is_floating_point():
            raise wrong_value("pixels", "a floating point dtype, values in [0, 1]", pixels.dtype)
        if self.device not in (None, pixels.device):
            raise wrong_value("pixels", f"device {self.device}, where the classifier is", pixels.device)

    def _check_logits(self, logits: Any, pixels: Tensor) -> None:
        if not isinstance(logits, Tensor):
            raise wrong_type("model", "one that returns logits [B, C], or an object with logits", logits)
        if logits.ndim != 2 or len(logits) != len(pixels) or not logits.is_floating_point():
            got = f"{list(logits.shape)} in {logits.dtype}"
            raise wrong_value("model", f"floating point logits [{len(pixels)}, C]", got)
        if self.labels is not None and logits.shape[1] != len(self.labels):
            raise wrong_value("labels", f"one for each of the {logits.shape[1]} logits", f"{len(self.labels)} labels")
        if pixels.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise wrong_value("model", "logits differentiable in the pixels", "logits without a gradient")

    def label_index(self, label: int | str) -> int:
        """Return the index of a class given by label or index.

        Raises:
            TypeError: neither.
            UnknownNameError: no such label; the message names the five nearest.
            ValueError: an index out of range, a label that several classes share, or a label where there are none.
        """
        labels = self.labels
        if not isinstance(label, str):
            index = whole_number("label", label, "a label or a class index")
            if index < 0 or (labels is not None and index >= len(labels)):
                wanted = "an index from 0" if labels is None else f"an index from 0 to {len(labels) - 1}"
                raise wrong_value("label", wanted, index)
            return index
        if labels is None:
            raise wrong_value("label", f"a class index, since {self.name} has no labels", repr(label))
        found = [index for index, known in enumerate(labels) if known == label]
        if not found:
            raise unknown_name("label", label, labels)
        if len(found) > 1:
            raise wrong_value("label", f"an index, since classes {found} share this label", repr(label))
        return found[0]

    def label_name(self, index: int) -> str:
        """Return the label of a class, or its index as text where there are no labels."""
        index = self.label_index(index)
        return str(index) if self.labels is None else self.labels[index]

    def resolve_layer(self, layer: str | nn.Module) -> str:
        """Return the dotted name of a layer given by name or as the module itself.

        Raises:
            TypeError: neither.
            UnknownNameError: no such name; the message names the five nearest.
            ValueError: a module that is not part of the model, or a model that has no modules.
        """
        if not isinstance(layer, str | nn.Module):
            raise wrong_type("layer", "a dotted name or a module", layer)
        if not isinstance(self.model, nn.Module):
            raise wrong_value("layer", "a classifier made from a torch module", f"the function {self.name}")
        names = {name: module for name, module in self.model.named_modules(remove_duplicate=False) if name}
        if isinstance(layer, str):
            if layer not in names:
                raise unknown_name("layer", layer, names)
            return layer
        for name, module in names.items():
            if module is layer:
                return name
        raise wrong_value("layer", f"a module inside {self.name}", f"a {type(layer).__name__} that is not part of it")

    def _submodule(self, layer: str | nn.Module) -> nn.Module:
        name = self.resolve_layer(layer)
        return cast(nn.Module, self.model).get_submodule(name)

    def layer_units(self, layer: str | nn.Module) -> int | None:
        """Return how many units a layer puts out, as far as its module says so without being run."""
        module = self._submodule(layer)
        found = (getattr(module, key, None) for key in ("out_channels", "out_features", "num_features"))
        return next((units for units in found if isinstance(units, int)), None)

    def fingerprint(self) -> str:
        """Return the sha256 over the weights and the preprocessing; for a function without weights its name."""
        parts = {"model": self.model, "preprocess": self.preprocess}
        modules = {key: part for key, part in parts.items() if isinstance(part, nn.Module)}
        if "model" not in modules:
            return f"callable {getattr(self.model, '__module__', '')}.{self.name}"
        steps = repr(self.preprocess) if isinstance(self.preprocess, Preprocess) else ""
        return hashlib.sha256(f"{weights_sha256(**modules)} {steps}".encode()).hexdigest()


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise wrong_type("labels", "a list of strings", labels)
    for label in labels:
        if not isinstance(label, str):
            raise wrong_type("labels", "a list of strings", label)
    if not labels:
        raise wrong_value("labels", "one for each class, or None", "an empty list")
    return tuple(labels)


def _checked_layers(layers: Iterable[str | nn.Module]) -> tuple[str | nn.Module, ...]:
    if isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable):
        raise wrong_type("layers", "a list of dotted names or modules", layers)
    return tuple(dict.fromkeys(layers))


def _first_tensor(output: Any, layer: str | nn.Module) -> Tensor:
    """Return a layer's output, or the first tensor in it."""
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    tensor = next((part for part in parts if isinstance(part, Tensor)), None)
    if tensor is None:
        raise wrong_type("layer", f"a module that puts out a tensor, as {layer} does not", output)
    return tensor
