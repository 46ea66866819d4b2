"""The classifiers of the command line: a name that the library knows, or a function in the user's own file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffexplain_fast.cli import options
from diffexplain_fast.cli.json_line import print_json
from diffexplain_fast.cli.own_files import made_by
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.storage import sha256_file

if TYPE_CHECKING:
    import torch

    from diffexplain_fast.models.classifier import Classifier

Name = Annotated[
    str,
    typer.Argument(
        metavar="CLASSIFIER",
        help='"tinyworld/companion", "timm/<model>", "torchvision/<model>", a folder or hub id of an image '
        'classifier of transformers, or a function in a file of your own as "my_file.py:make".',
    ),
]


def load_classifier(name: str, device: str, dtype: "torch.dtype | None" = None) -> "Classifier":
    """Return a classifier by its name, or call the function that makes it.

    Args:
        name: see ``Name``; a file of Python is run, as if the user had run it.
        device: "cpu" or "cuda".
        dtype: of the weights; float32 if None, or what the user's function makes.

    Raises:
        TypeError: the function returns no classifier.
        ValueError: the file or the function does not exist, needs arguments or fails; a name that means nothing, with
            what was probably meant.
    """
    import torch

    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.tinyworld.store import classifier_names

    if name.endswith(".py"):
        raise wrong_value("classifier", f"a function of the file, as {name}:make", name)
    if name.rpartition(":")[0].endswith(".py"):
        return _made_by(name, device)
    try:
        return Classifier.from_pretrained(name, device=device, dtype=dtype or torch.float32)
    except (ValueError, OSError) as error:
        if name in classifier_names():
            raise ValueError(f"{error}; did you mean tinyworld/{name}?") from error
        raise


def _made_by(name: str, device: str) -> "Classifier":
    import torch

    from diffexplain_fast.models.classifier import Classifier

    made = made_by("classifier", name)
    if isinstance(made, torch.nn.Module):
        made = Classifier(made.to(device).eval(), name=Path(name.rpartition(":")[0]).stem)
    if not isinstance(made, Classifier):
        raise wrong_type("classifier", f"a Classifier or a module from {name}", made)
    return made


def identity(name: str, loaded: "Classifier") -> str:
    """Return a text that changes with the classifier, or with the file that makes it.

    Args:
        name: see ``Name``.
        loaded: the classifier of that name.
    """
    file = Path(name.rpartition(":")[0])
    return f"{loaded.fingerprint()} {sha256_file(file) if file.is_file() else ''}".strip()


def classes(classifier: Name, as_json: options.OneJson = False) -> None:
    """List the classes of a classifier, which can be explained.

    With --json each one has its "index", its "label", and the "target" that asks for it alone.

    Example: diffexplain-fast classes tinyworld/background
    """
    from diffexplain_fast.targets import told_apart

    loaded = load_classifier(classifier, "cpu")
    if loaded.labels is None:
        raise wrong_value("classifier", "a classifier with labels (its classes are asked for by number)", "none")
    targets = told_apart(loaded.labels)
    if as_json:
        rows = [
            {"index": i, "label": label, "target": target}
            for i, (label, target) in enumerate(zip(loaded.labels, targets, strict=True))
        ]
        print_json({"classifier": loaded.name, "classes": rows})
        return
    for i, target in enumerate(targets):
        print(f"{i:>5}  {target}")


def layers(classifier: Name, as_json: options.OneJson = False) -> None:
    """List the layers of a classifier.

    Their names are for targets such as "neuron:LAYER:UNIT". With --json each one has its "name" and its "kind".

    Example: diffexplain-fast layers tinyworld/background
    """
    import torch

    loaded = load_classifier(classifier, "cpu")
    if not isinstance(loaded.model, torch.nn.Module):
        raise wrong_value("classifier", "a classifier made from a torch module", f"the function {loaded.name}")
    found = {name: type(module).__name__ for name, module in loaded.model.named_modules() if name}
    if as_json:
        rows = [{"name": name, "kind": kind} for name, kind in found.items()]
        print_json({"classifier": loaded.name, "layers": rows})
        return
    for name, kind in found.items():
        print(f"{name}  ({kind})")
