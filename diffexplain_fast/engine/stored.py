"""Weights that are stored in another form, dtype or place than that in which autograd or the models compute."""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from diffexplain_fast.errors import wrong_value

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes of weights in which torch computes."""
_LIMIT = "memory='8GiB' of the sampler keeps a limit"
_UNHOOKED = f"pipe.remove_all_hooks() and pipe.to(device); {_LIMIT}"
"""What undoes the offloading of accelerate."""

_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.", "torch.ao.nn.sparse.quantized.")
_FLOATING = ("torch.ao.nn.quantized.reference.", "torch.ao.nn.quantized.modules.functional_modules.")
"""Packages of the layers that torch quantises, and those parts of them that compute with floating numbers."""


def check_unquantised(name: str, module: nn.Module) -> None:
    """Refuse layers of ``torch.ao.quantization``, through which autograd leaves a gradient out without an error.

    Args:
        name: "unet" or "vae".
        module: the UNet or the VAE, through which a gradient is wanted.

    Raises:
        ValueError: names the first such layer.
    """
    quantised = {kind for kind in {*map(type, module.modules())} if any(map(_is_quantised, kind.__mro__))}
    if quantised:
        place, part = next((place, part) for place, part in module.named_modules() if type(part) in quantised)
        wanted = f"a {name} whose layers autograd differentiates (in bfloat16, for less memory), or torch.no_grad()"
        kind = type(part)
        got = f"{kind.__module__}.{kind.__name__} at {place}, through which torch hands on no gradient"
        raise wrong_value(name, wanted, got)


def _is_quantised(kind: type) -> bool:
    return kind.__module__.startswith(_QUANTISED) and not kind.__module__.startswith(_FLOATING)


def check_weights(**modules: nn.Module) -> None:
    """Refuse weights that are stored in another dtype, or at another place, than the one where the models compute.

    Models that are on the meta device as a whole compute there, where only shapes and operations are counted.

    Args:
        **modules: the models of a sampler, "unet" and "vae".

    Raises:
        ValueError: weights of a dtype in which torch does not compute, or that every run converts (layerwise casting),
            or that every run fetches from elsewhere (the offloading of accelerate and of diffusers), or without values.
    """
    stored = {name: _stored(module) for name, module in modules.items()}
    counted = all(weight.is_meta for weights, _ in stored.values() for weight in weights)
    for name, (weights, hooks) in stored.items():
        dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), None)
        if dtype not in (None, *_DTYPES) or any(kind == "layerwise_casting" for kind, _ in hooks):
            names = ", ".join(str(each).removeprefix("torch.") for each in _DTYPES)
            wanted = f"weights in one of {names} (a {name} loaded without enable_layerwise_casting)"
            raise wrong_value(name, wanted, f"{dtype}, which every run converts" if dtype in _DTYPES else dtype)
        if problem := _elsewhere(() if counted else weights, hooks):
            got, remedy = problem
            raise wrong_value(name, f"weights that stay on the device where they compute ({remedy})", got)


def _stored(module: nn.Module) -> tuple[list["Tensor"], list[tuple[str, object]]]:
    """Return the weights of a model, and the hooks of other libraries on its parts; before every call, in one round."""
    weights: list[Tensor] = []
    hooks: list[tuple[str, object]] = []
    for part in module.modules():
        attributes = vars(part)
        weights += [weight for weight in attributes["_parameters"].values() if weight is not None]
        if "_hf_hook" in attributes or "_diffusers_hook" in attributes:
            hooks += _hooks(attributes)
    return weights, hooks


def _elsewhere(weights: Iterable["Tensor"], hooks: Collection[tuple[str, object]]) -> tuple[str, ...]:
    """Return how weights are stored away from where they compute, and the remedy; nothing if they are not."""
    kinds = {kind for kind, _ in hooks}
    if "group_offloading" in kinds:
        return "those of enable_group_offload", f"a pipeline loaded without it; {_LIMIT}"
    if "CpuOffload" in kinds:
        return "those of enable_model_cpu_offload", _UNHOOKED
    if any(getattr(hook, "offload", None) is True for _, hook in hooks):
        return "those of enable_sequential_cpu_offload or accelerate's cpu_offload", _UNHOOKED
    if any(weight.is_meta for weight in weights):
        return "weights on the meta device, which have no values", "to_empty(device=...) and load_state_dict"
    return ()


def _hooks(attributes: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the hooks of accelerate by the names of their classes, and those of diffusers by their own names."""
    hook = attributes.get("_hf_hook")
    for each in (hook, *getattr(hook, "hooks", ())):
        yield type(each).__name__, each
    yield from getattr(attributes.get("_diffusers_hook"), "hooks", {}).items()
