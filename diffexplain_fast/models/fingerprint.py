"""A hash of a set of weights, so that a result can identify the models that produced it."""

import hashlib

from torch import nn

from diffexplain_fast.models.contents import add_content
from diffexplain_fast.models.watch import Watch


def weights_sha256(**modules: nn.Module) -> str:
    """Return the sha256 over every entry of the states of named modules: names, dtypes, shapes, bytes.

    Entries are parameters, stored buffers, and what else a module keeps in its state, such as its ``get_extra_state``
    or the packed weights of a quantised layer.

    Args:
        modules: the modules by component name; their order does not matter.

    Returns:
        64 hexadecimal digits, equal on every device.

    Raises:
        TypeError: an entry that is neither a tensor nor made of numbers, texts, lists and dicts.
    """
    digest = hashlib.sha256()
    for component, module in sorted(modules.items()):
        for name, value in sorted(module.state_dict().items()):
            add_content(digest.update, f"{component}.{name}", value)
    return digest.hexdigest()


class KeptHash:
    """The sha256 of the weights of modules, computed again only if one of them was edited or replaced."""

    def __init__(self) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._watch: Watch | None = None
        self._sha256 = ""

    def of(self, **modules: nn.Module) -> str:
        """Return ``weights_sha256`` of modules."""
        if self._watch is None or self._modules != modules or self._watch.edited():
            self._watch, self._modules, self._sha256 = Watch(*modules.values()), modules, weights_sha256(**modules)
        return self._sha256

    def __reduce__(self) -> tuple[type["KeptHash"], tuple[()]]:
        """Copy and pickle nothing, because a copy's weights are others."""
        return KeptHash, ()
