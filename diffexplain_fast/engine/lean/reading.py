"""Reading the weights of the user's modules, sharing them wherever their layout allows."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffexplain_fast.engine.lean.adapters import (
    LoraLayer,
    Thin,
    adapted,
    adapted_backward,
    matrices,
    matrix_gradients,
    plain_adapter,
    read_thin,
)
from diffexplain_fast.engine.lean.taken import UnsupportedModelError, class_of, take, take_whole, unsupported
from diffexplain_fast.models.watch import foreign, global_hooks, has_hooks, replaced_method
from diffexplain_fast.models.wrapped import wrapped
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, TensorFunction, first_order
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.conv2d_frozen import Convolution

_Module = TypeVar("_Module", bound=nn.Module)
_PRODUCTS = (nn.Linear.forward, nn.Conv2d.forward)
"""What the thin layers of a LoRA compute, so that their product can be added to a weight."""


def known(module: object, *names: str) -> None:
    """Refuse a module that is not of one of diffusers' own classes, or whose class got another ``forward``.

    Args:
        module: a part of the user's model.
        *names: names of known classes.

    Raises:
        UnsupportedModelError: names the place and the class of the module.
    """
    kind = type(module)
    if kind.__name__ not in names or not kind.__module__.startswith("diffusers."):
        raise unsupported(module, f"{class_of(module)} where diffusers' {' or '.join(names)} was expected")
    forward: Any = getattr(kind, "forward", kind.__call__)  # of a module, or of an attention processor
    if by := foreign(forward, ("diffusers", "torch")):
        raise unsupported(module, f"{class_of(module)} computes by {by}")
    take(module)


def unwrapped(model: _Module) -> _Module:
    """Return the model inside of PEFT's wrappers, or the model itself if it has none.

    Raises:
        UnsupportedModelError: a wrapper does more than to hand calls on; names why.
    """
    *wrappers, inner = wrapped(model)
    for wrapper in wrappers:
        kind = type(wrapper)
        if by := foreign(kind.forward, ("peft", "torch")):
            raise UnsupportedModelError(f"{class_of(wrapper)} computes by {by}")
        if has_hooks(wrapper) or "forward" in vars(wrapper):
            raise UnsupportedModelError(f"a hook or another forward on {kind.__name__}")
    return cast(_Module, inner)


def check_plain(model: nn.Module, plain: Mapping[str, object]) -> None:
    """Refuse a model that computes something else than what is built here, by its options, hooks or other methods.

    Args:
        model: diffusers model.
        plain: for each option the value that it must have if the configuration has the option.

    Raises:
        UnsupportedModelError: names the option, or the module with a hook or another method.
    """
    config: Any = model.config
    for option, value in plain.items():
        if config.get(option, value) != value:
            raise UnsupportedModelError(f"config.{option} = {config[option]!r} where {value!r} was expected")
    if global_hooks():
        raise UnsupportedModelError("a hook on all modules")
    for name, module in model.named_modules():
        method, by = replaced_method(module)
        if by:
            what = f"{class_of(module)} computes by {by} in place of {method}"
            raise UnsupportedModelError(f"{name}: {what}" if name else what)
        what = f"another {method}" if method else "a hook"
        if method or has_hooks(module):
            raise UnsupportedModelError(f"{what} on {name or 'the model itself'}")


class Linear(NamedTuple):
    """Frozen weight [K, C], bias [K] or None, and the adapters that are trained beside them."""

    weight: Tensor
    bias: Tensor | None
    thin: tuple[Thin, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Return x W^T + b for [..., C]; ``torch.autocast`` around the backward does not change the gradient."""
        if torch.is_grad_enabled() and (x.requires_grad or self.thin):
            return _Linear.apply(x, self, *matrices(self.thin))
        return adapted(self.forward(x), x, self.thin)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b without adapters and without recording a graph."""
        return F.linear(x, self.weight, self.bias)

    def backward(self, dy: Tensor) -> Tensor:
        """Return the gradient of x, dy W, for [..., K]."""
        return adapted_backward(dy @ self.weight, dy, self.thin)


def packed(q: Linear, k: Linear, v: Linear) -> Linear | None:
    """Return one layer for three of the same input; None where adapters are trained or only some have a bias."""
    layers, biases = (q, k, v), [layer.bias for layer in (q, k, v) if layer.bias is not None]
    shapes = {layer.weight.shape for layer in layers}
    if any(layer.thin for layer in layers) or len(biases) not in (0, 3) or len(shapes) > 1:
        return None
    with torch.no_grad():
        return Linear(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)


class _Linear(TensorFunction):
    @staticmethod
    def forward(ctx: Context, x: Tensor, linear: Linear, *trained: Tensor) -> Tensor:
        ctx.linear = linear
        ctx.save_for_backward(*((x, *trained) if trained else ()))
        return linear(x)

    @staticmethod
    @first_order("the sampler's projection of the text")
    @without_autocast
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        linear = ctx.linear
        grads = matrix_gradients((linear.thin, saved[0], dy)) if saved else []
        return linear.backward(dy), None, *grads


def add_product(total: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add x W [R, K], of x [R, C] and a weight [C, K], to a total in place."""
    torch.addmm(total, x, weight, out=total)  # torch counts the FLOP of addmm, but not those of addmm_


class Norm(NamedTuple):
    """GroupNorm's or LayerNorm's frozen weight and bias; groups is 0 for LayerNorm."""

    weight: Tensor
    bias: Tensor
    groups: int
    eps: float


def linear(module: Any) -> Linear:
    """Read a linear layer, or a 1 x 1 convolution as a linear layer; LoRA that is not trained is added to the weight.

    Raises:
        UnsupportedModelError: another kind of module.
    """
    weight, bias = _effective(module, nn.Linear, nn.Conv2d)
    if weight.ndim == 4:
        if weight.shape[2:] != (1, 1):
            raise unsupported(module, f"a {tuple(weight.shape[2:])} convolution where a linear layer was expected")
        weight = weight[:, :, 0, 0]
    return Linear(weight, bias, _trained(module))


def conv(module: Any) -> Convolution:
    """Read a convolution; its weight is copied to channels-last if it has another layout.

    Raises:
        UnsupportedModelError: another kind of module, or groups, dilation or uneven strides.
    """
    weight, bias = _effective(module, nn.Conv2d)
    base: Any = getattr(module, "base_layer", module)
    even = len(set(base.stride)) == 1 and not isinstance(base.padding, str) and len(set(base.padding)) == 1
    if base.groups != 1 or set(base.dilation) != {1} or not even or base.padding_mode != "zeros":
        raise unsupported(module, "a convolution with groups, dilation, uneven stride or another padding")
    return Convolution(channels_last(weight), bias, base.stride[0], base.padding[0])


def silu(module: object, where: str) -> None:
    """Refuse another activation than SiLU.

    Args:
        module: the user's activation.
        where: its place, for the message.

    Raises:
        UnsupportedModelError: names the place.
    """
    if type(module) is not nn.SiLU:
        raise unsupported(module, f"another activation {where}, {class_of(module)} where torch's SiLU was expected")
    take(module)


def norm(module: Any) -> Norm:
    """Read a GroupNorm or LayerNorm with weights.

    Raises:
        UnsupportedModelError: another kind of module.
    """
    if type(module) not in (nn.GroupNorm, nn.LayerNorm) or module.weight is None or module.bias is None:
        raise unsupported(module, f"{class_of(module)} where torch's GroupNorm or LayerNorm with weights was expected")
    take(module)
    return Norm(module.weight.detach(), module.bias.detach(), getattr(module, "num_groups", 0), module.eps)


def _effective(module: Any, *kinds: type) -> tuple[Tensor, Tensor | None]:
    """Return the effective weight and bias: of the module, or of PEFT's base layer plus the active LoRA not trained."""
    base: Any = getattr(module, "base_layer", module)
    if type(base) not in kinds:
        # diffusers' own LoRA-compatible classes and quantised layers compute more than a product with their weight.
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise unsupported(base, f"{class_of(base)} where torch's {wanted} was expected")
    take(base)
    weight: Tensor = base.weight.detach()
    if base is not module:
        if not hasattr(module, "get_delta_weight") or not hasattr(module, "lora_A"):
            raise unsupported(module, f"{class_of(module)}, an adapter that is not LoRA")
        if any(any(getattr(module, option, {}).values()) for option in ("use_dora", "lora_bias", "lora_variant")):
            raise unsupported(module, "a LoRA with magnitudes, biases or a variant of its own")
        take(module)
        for layer in (*module.lora_A.values(), *module.lora_B.values()):
            if type(layer).forward in _PRODUCTS:
                take_whole(layer)  # also the parametrization of a weight, which is read through it
        with torch.no_grad():
            for adapter in _acting(module):
                if read_thin(module, adapter) is None:
                    weight = weight + module.get_delta_weight(adapter).to(weight.dtype)
    return weight, None if base.bias is None else base.bias.detach()


def _acting(module: LoraLayer) -> list[str]:
    """Return the names of the active adapters of a LoRA layer."""
    idle = module.merged or module.disable_adapters
    return [] if idle else [adapter for adapter in module.active_adapters if adapter in module.lora_A]


def _trained(module: LoraLayer) -> tuple[Thin, ...]:
    """Return the trained adapters of a layer; only adapters of two plain matrices are read."""
    if not hasattr(module, "base_layer"):
        return ()
    adapters = (read_thin(module, name) for name in _acting(module) if plain_adapter(module, name))
    return tuple(thin for thin in adapters if thin is not None)
