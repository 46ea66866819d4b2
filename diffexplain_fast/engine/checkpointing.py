"""Calls inside the caller's ``torch.utils.checkpoint(use_reentrant=False)``.

Such checkpointing drops every tensor that is saved while it is active, and computes them again for every backward.
The graphs of single steps have backwards of their own and are exempt: a call keeps the tensors that its plan says.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

EDITED = (
    "the UNet or the VAE was edited between the sampler's call and its backward; call the sampler again "
    "(and run the backward inside torch.func.functional_call, if that put other weights into the models, or before the "
    "sampler is closed, if that put the layout of the weights back)"
)
"""Why a backward that computes a part of the call again, or that reads the models, cannot run."""


def apart_from_checkpoint() -> AbstractContextManager[object]:
    """Return a context in which the caller's checkpointing drops nothing; other hooks of the caller still run."""
    if not checkpointing():
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda tensor: tensor)


def recomputing() -> bool:
    """Whether this call repeats an earlier call for the backward of that call, and has no backward of its own."""
    return checkpointing() and torch._C._current_graph_task_id() != -1


def checkpointing() -> bool:
    """Whether saved tensors go to torch's checkpointing; torch has no public way to ask."""
    hooks: Sequence[object] = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return bool(hooks) and getattr(hooks[0], "__module__", "") == torch.utils.checkpoint.__name__
