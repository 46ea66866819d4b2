"""Classifiers behind one interface: from pixels in [0, 1] to logits and activations; the models are never changed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diffexplain_fast.environment import check_device
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.asking import answer_of, check_initialised, check_pixels, checked_values
from diffexplain_fast.models.buffers import stored_buffers_kept
from diffexplain_fast.models.fingerprint import weights_sha256
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.hooked import Layer, have_rows, outputs_of
from diffexplain_fast.models.labels import checked_labels, find_label
from diffexplain_fast.models.layers import checked_layers, named_layer
from diffexplain_fast.models.loading import load_parts
from diffexplain_fast.models.outputs import settled_output, stated_output
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.models.reach import held_modules, modules_in
from diffexplain_fast.results.truth import checked_truths
from diffexplain_fast.targets import Response
from diffexplain_fast.targets.neurons import units_of
from diffexplain_fast.targets.outputs import SOFTMAX, as_logits
from diffexplain_fast.views import View, Viewed


class Classifier(Viewed):
    """Any model from pixels [B, 3, H, W] in [0, 1] to logits, probabilities or numbers [B, C].

    The model runs in eval mode with frozen weights, and every call leaves its weights, buffers, modes and hooks
    unchanged; buffers that are not in its ``state_dict`` are caches of its own. The same holds for modules behind a
    bound method, a ``functools.partial`` or a function that closes over them or names them as global variables, and in
    the attributes of an object, or of a module as they are after the first call: see ``reach.modules_in``. The model
    stays on its device. The pixels are cast to the dtype of its weights; the model gets a copy, so it cannot change the
    caller's pixels.

    Args:
        model: module or function that returns logits [B, C], or an object or dict with such ``logits``.
        preprocess: differentiable function from pixels [B, 3, H, W] in [0, 1] to the input of the model; None if the
            model takes such pixels.
        labels: name of each class, also as a dict from class index; two classes may share a name and are then
            distinguished by index. If the model has one logit, the first label names the meaning of a positive logit,
            and a second label may name its opposite.
        output: meaning of the model's numbers: "softmax" (logits, one class is right), "sigmoid" (log-odds, each class
            is there or not), "regression" (numbers), "probabilities" (after a softmax) or "independent probabilities"
            (each after a sigmoid). If None, the ``problem_type`` of a transformers model decides. Without one, a model
            of one logit counts as "sigmoid", and a model whose answers to probe pictures are probabilities as a model
            of probabilities, both with a warning; every other model counts as "softmax".
        name: name of the classifier in results.
        truth: for each label, a dict of the known truth about its features. A report shows its ``"attributes"``, a list
            of dicts with ``"attribute"``, ``"effect"`` and optionally ``"interval"`` and ``"role"``. It is stored as
            JSON values.

    Attributes:
        model: the model that the user passed.
        preprocess: the function that the user passed.
        labels: names of the classes, None if they have none.
        output: the kind of output; if neither the user nor the model states it, None until the first call.
        name: name of the classifier in results.
        truth: for each label, the known truth about its features; None if there is none.

    Raises:
        TypeError: a model or preprocess that cannot be called, labels that are not strings, a truth without keys or
            with a value that JSON does not have.
        ValueError: no labels in a sequence of labels, text that UTF-8 cannot encode, a kind of output that does not
            exist, a truth whose attributes have another structure.
    """

    def __init__(
        self,
        model: Callable[..., object],
        preprocess: Callable[[Tensor], Tensor] | None = None,
        labels: Iterable[str] | Mapping[int, str] | None = None,
        *,
        output: str | None = None,
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
        self.labels = None if labels is None else checked_labels(labels)
        self.name = name or getattr(model, "__qualname__", None) or type(model).__name__
        self.output = stated_output(output, model)
        self._classes: int | None = None
        self._rows: dict[str, bool] = {}
        self._reached: tuple[list[nn.Module], list[nn.Module]] = [], []

    @classmethod
    @torch.inference_mode(False)
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        output: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "Classifier":
        """Load a published classifier with its preprocessing and labels; it reads no pickle that could run code.

        Args:
            source: "timm/<name>", "torchvision/<name>", "tinyworld/<name>", otherwise a folder or hub id of a
                transformers image classifier; a ``Path`` is always a folder.
            output: meaning of the model's numbers, see ``Classifier``; if None, the configuration decides.
            dtype: dtype of the weights.
            device: device of the weights, the CPU if None.
            revision: branch, tag or commit of a hub id; for torchvision the name of the weights.
            local_files_only: True to make no network requests.

        Raises:
            ImportError: timm or torchvision is not installed; the message says how to install it.
            TypeError: a source that is not a string or path, a dtype that is not floating point.
            ValueError: no such model or device, or a folder that is not an image classifier or does not describe its
                preprocessing; the message says what is missing. A model that refuses the output of its preprocessing.
            UnsafeFileError: the weights are a pickle; nothing was read.
            CorruptFileError: a weight file is damaged.
            OSError: a hub id that is neither in the cache nor on the hub.
        """
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise wrong_type("dtype", "a floating point torch.dtype", dtype)
        check_device(device)
        parts = load_parts(source, revision=revision, local_files_only=local_files_only)
        model, output = parts.model.to(device or "cpu", dtype).eval(), parts.output if output is None else output
        return cls(model, parts.preprocess, parts.labels, output=output, name=parts.name, truth=parts.truth)

    def _view(self) -> View:
        classes = "without names" if self.labels is None else f"{len(self.labels)}: {', '.join(self.labels[:12])}"
        rows = {
            "model": f"{type(self.model).__name__} on {self.device or 'no device of its own'}",
            "classes": classes,
            "output": self.output or "settled at the first call",
            "truth": "none" if self.truth is None else f"of {len(self.truth)} classes",
        }
        return View(f"Classifier {self.name}", rows)

    @property
    def modules(self) -> list[nn.Module]:
        """The torch modules among the model and its preprocessing, or behind them: see ``reach.modules_in``."""
        held = held_modules(self.model, self.preprocess)
        # A whole search takes longer than the run of a small model, and a module may make others in its first run.
        if self._classes is None or [*map(id, held)] != [*map(id, self._reached[0])]:
            self._reached = held, modules_in(*held)
        return self._reached[1]

    @property
    def device(self) -> torch.device | None:
        """Device of the model's weights, None if it has none."""
        weight = next(self._weights(), None)
        return None if weight is None else weight.device

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return logits [B, C] of pixels [B, 3, H, W] in [0, 1]; differentiable only in the pixels.

        If the model gives probabilities, the logits are their logarithms, or the log-odds of independent probabilities;
        for a regression they are its outputs. A single logit with two labels becomes two logits, the second the
        negative of the first.

        Raises:
            RefusedInputError: the model or the preprocess raised an error at what it was given; names its shape.
            TypeError: pixels that are not a tensor, or a model that does not return a tensor.
            ValueError: pixels of wrong rank, channels, dtype or device; logits of another rank, or of another
                number than the labels; a model that passes no gradient to its pixels; a kind of output that contradicts
                the logits.
        """
        output = self.settle(pixels)
        values = self._values(pixels)
        if pixels.requires_grad and torch.is_grad_enabled() and not values.requires_grad:
            raise wrong_value("model", "logits differentiable in the pixels", "logits without a gradient")
        logits = as_logits(values, output)
        both = logits.shape[1] == 1 and self.labels is not None and len(self.labels) == 2
        return torch.cat([logits, -logits], 1) if both else logits

    def settle(self, pixels: Tensor) -> str:
        """Return the kind of output; if neither user nor model states it, the first call tests it on probe pictures.

        Args:
            pixels: images [B, 3, H, W]; the probe pictures have their shape, dtype and device.

        Returns:
            "softmax", "sigmoid", "regression", "probabilities" or "independent probabilities".

        Raises:
            ValueError: as calling the classifier; a stated kind that the answers contradict.
        """
        check_pixels(pixels, self.device)
        if self._classes is None and not pixels.is_meta:
            check_initialised(self.modules)
            settled = settled_output(self.output, self._values, pixels, self.labels, self.name)
            self.output, self._classes = settled
            self._reached = [], []
        return self.output or SOFTMAX

    def _values(self, pixels: Tensor) -> Tensor:
        """Return the output of the model [B, C]."""
        weights, modules = (each.dtype for each in self._weights() if each.is_floating_point()), self.modules
        with frozen(*modules), stored_buffers_kept(modules):
            answer = answer_of(self.model, self.preprocess, pixels, next(weights, None))
        return checked_values(answer, len(pixels), self.labels)

    def respond(self, pixels: Tensor, layers: Iterable[str | nn.Module] = ()) -> Response:
        """Run the classifier and keep the outputs of some of its layers.

        With layers, a compiled model runs uncompiled, because compiled code does not run the hooks that read them.

        Args:
            pixels: images [B, 3, H, W] in [0, 1].
            layers: dotted names or modules. A layer that runs several times gives its last output; from a tuple
                or dict, the first tensor is used.

        Returns:
            Pixels, logits and the activations by the names or modules in ``layers``, all differentiable in the pixels,
            and the layers whose rows are not the images; a layer's first use runs the model once more to tell.

        Raises:
            UnknownNameError: a layer that the model does not have.
            ValueError: a layer that did not run, or one inside of a scripted or traced module, which runs no hooks;
                otherwise as calling the classifier.
        """
        named = {layer: named_layer(self.model, self.name, layer) for layer in checked_layers(layers)}
        self.settle(pixels)  # before hooks exist, which would see the probe pictures
        with outputs_of({layer: module for layer, (_, module) in named.items()}) as activations:
            logits = self(pixels)
        for layer in named:
            if layer not in activations:
                raise wrong_value("layer", "a module that runs when the model runs", f"{layer}, which did not")
        apart = self._apart(named, activations, pixels)
        return Response(pixels, logits, activations, self.output or SOFTMAX, apart)

    def _apart(
        self, named: Mapping[Layer, tuple[str, nn.Module]], found: Mapping[Layer, Tensor], pixels: Tensor
    ) -> frozenset[Layer]:
        """Return the layers whose outputs do not have one row for each image first: see ``hooked.have_rows``."""
        count = len(pixels)
        likely = {layer: named[layer] for layer in named if found[layer].shape[:1] == (count,)}
        new = {name: module for name, module in likely.values() if name not in self._rows}
        if new and not pixels.is_meta:
            self._rows |= have_rows(new, self._values, pixels)
        rows = {layer for layer, (name, _) in likely.items() if self._rows.get(name, True)}
        return frozenset(named.keys() - rows)

    def _weights(self) -> Iterator[Tensor]:
        if isinstance(self.model, nn.Module):
            yield from self.model.parameters()
            yield from self.model.buffers()

    def label_index(self, label: int | str) -> int:
        """Return the index of a class from its label or index.

        Raises:
            TypeError: neither a label nor an index.
            UnknownNameError: no such label; the message names the five nearest.
            ValueError: an index out of range, a label that several classes share, or a label if classes have none.
        """
        return find_label(self.labels, self.name, label, self._classes)

    def label_name(self, index: int) -> str:
        """Return the label of a class, or its index as text if classes have no labels."""
        index = self.label_index(index)
        return str(index) if self.labels is None else self.labels[index]

    def resolve_layer(self, layer: str | nn.Module) -> str:
        """Return the dotted name of a layer from its name or module.

        Raises:
            TypeError: neither a name nor a module.
            UnknownNameError: no such name; the message names the five nearest.
            ValueError: a module that is not part of the model, a layer inside of a scripted or traced module, or a
                model that has no modules.
        """
        return named_layer(self.model, self.name, layer)[0]

    def _submodule(self, layer: str | nn.Module) -> nn.Module:
        return named_layer(self.model, self.name, layer)[1]

    def layer_units(self, layer: str | nn.Module) -> int | None:
        """Return the number of units of a layer, or None if its module does not say it without a run."""
        return units_of(self._submodule(layer))

    def fingerprint(self) -> str:
        """Return the sha256 over weights and preprocessing, or the name of a function without weights.

        Raises:
            TypeError, ValueError: a state with an entry that has no content to hash, or is not initialised; names it.
        """
        callables = {"model": self.model, "preprocess": self.preprocess}
        modules = {key: module for key, module in callables.items() if isinstance(module, nn.Module)}
        if "model" not in modules:
            return f"callable {getattr(self.model, '__module__', '')}.{self.name}"
        check_initialised(modules.values())
        steps = repr(self.preprocess) if isinstance(self.preprocess, Preprocess) else ""
        return hashlib.sha256(f"{weights_sha256(**modules)} {steps}".encode()).hexdigest()
