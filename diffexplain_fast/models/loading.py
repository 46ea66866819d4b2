"""Which library a published classifier comes from."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type


class Parts(NamedTuple):
    """A published classifier: its module, what comes before it, the names of its classes, and its truth."""

    model: nn.Module
    preprocess: Callable[[Tensor], Tensor] | None
    labels: tuple[str, ...] | None
    name: str
    truth: dict | None = None


def load_parts(source: str | Path, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load a classifier on the CPU in float32; see ``Classifier.from_pretrained``."""
    if not isinstance(source, str | Path):
        raise wrong_type("classifier", "a name, a hub id or a folder", source)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    family, _, name = str(source).partition("/")
    if isinstance(source, str) and family == "tinyworld":
        from diffexplain_fast.tinyworld import load_classifier

        found = load_classifier(name)
        return Parts(cast(nn.Module, found.model), found.preprocess, found.labels, found.name, found.truth)
    if isinstance(source, str) and family == "timm":
        from diffexplain_fast.models.timm_models import load_timm

        return load_timm(name, **options)
    if isinstance(source, str) and family == "torchvision":
        from diffexplain_fast.models.torchvision_models import load_torchvision

        return load_torchvision(name, **options)
    from diffexplain_fast.models.transformers_classifiers import load_transformers

    return load_transformers(source, **options)


def extra(library: str) -> ModuleType:
    """Import an optional library, or say how to install it."""
    try:
        return import_module(library)
    except ImportError as error:
        remedy = f"pip install diffexplain-fast[{library}]"
        raise ImportError(f"classifier: wanted the package {library} ({remedy}), got {error}") from error
