"""Models, and modules behind functions of the user, which stay as they are while a method runs them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from diffexplain_fast.models.buffers import stored_buffers_kept
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.reach import modules_in


@contextmanager
def undisturbed(models: Iterable[nn.Module], *functions: object) -> Iterator[None]:
    """Freeze models, and the modules behind functions of the user, while the context is open; see ``frozen``.

    The functions' modules have their stored buffers back at the end, unless they are parts of the models.

    Args:
        models: modules that keep their buffers themselves, as those of a ``Classifier`` do at every call.
        functions: functions of the user, such as targets and eyes, lists and dicts of them, or any other values; see
            ``reach.modules_in`` for what is found behind them.
    """
    given = list(models)
    parts = {id(part) for module in given for part in module.modules()}
    behind = [module for module in modules_in(*functions) if id(module) not in parts]
    with frozen(*given, *behind), stored_buffers_kept(behind):
        yield
