"""Calls inside the caller's ``torch.utils.checkpoint(use_reentrant=False)``.

Such checkpointing takes away whatever is saved while it is active, and computes all of it again for every backward. The
graphs of single steps, each with a backward of its own, are no part of that: a sampling keeps what its plan says.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch


def apart_from_checkpoint() -> AbstractContextManager[object]:
    """Return a context in which the caller's checkpointing takes nothing away; other hooks of the caller's still do."""
    if not checkpointing():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor)


def recomputing() -> bool:
    """Whether this call repeats an earlier one for the backward of that one, and has none of its own."""
    return checkpointing() and torch._C._current_graph_task_id() != -1


def checkpointing() -> bool:
    """Whether what is saved goes to torch's checkpointing; there is no public way to ask."""
    hooks: Sequence[object] = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return bool(hooks) and getattr(hooks[0], "__module__", "") == torch.utils.checkpoint.__name__
