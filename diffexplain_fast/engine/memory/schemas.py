"""What the schema of an operation of torch says of its results."""

import functools

import torch
from torch._ops import OpOverload


@functools.cache
def functional(func: OpOverload) -> bool:
    """Whether an operation changes none of its arguments and returns no view of them."""
    values = [*func._schema.arguments, *func._schema.returns]
    return all(value.alias_info is None for value in values)


@functools.cache
def several(func: OpOverload) -> bool:
    """Whether an operation returns several results, or one list of them."""
    returns = func._schema.returns
    return len(returns) > 1 or isinstance(returns[0].type, torch.ListType)


@functools.cache
def in_place(func: OpOverload) -> bool:
    """Whether an operation changes its first argument's contents and returns it, and does nothing else."""
    if torch.Tag.inplace_view in func.tags or len(func._schema.returns) != 1:
        return False
    aliases = [value.alias_info for value in func._schema.arguments]
    return bool(aliases and aliases[0] and aliases[0].is_write) and not any(aliases[1:])
