"""Names of a package or file that come from another file and are imported at first use."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's ``__getattr__`` that imports public names at first use.

    Args:
        package: name of the package.
        homes: module of each name, relative to diffexplain_fast; if its last part is the name, the module is the value.
    """

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"diffexplain_fast.{homes[name]}")
        return home if homes[name].split(".")[-1] == name else getattr(home, name)

    return find
