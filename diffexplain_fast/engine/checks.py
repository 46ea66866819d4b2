"""Checks of the models, options and inputs of a sampler."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.memory.plan import parse_bytes
from diffexplain_fast.engine.stored import check_unquantised, check_weights
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.frozen import trainable

BACKENDS = ("auto", "reference", "fast")
_ABSENT = {
    "time_cond_proj_dim": "no guidance embedding (use an LCM-LoRA merged into the plain UNet)",
    "class_embed_type": "no class embedding",
    "num_class_embeds": "no class embedding",
    "encoder_hid_dim_type": "no projection of a text or of a picture, as an IP-adapter adds (pipe.unload_ip_adapter())",
}
"""Options of a UNet that need inputs the sampler does not have, and the remedy for each."""


def check_modules(unet: object, vae: object) -> None:
    """Refuse modules that are not a diffusers UNet and VAE, or that need other inputs than prompts and latents.

    Raises:
        TypeError: not a module with a configuration, another UNet of diffusers, such as one without text, or the VAE of
            a video.
        ValueError: a UNet of another kind, one that does not fit the VAE, or weights that are only stored, see
            ``check_weights``.
    """
    if not isinstance(unet, nn.Module) or not hasattr(unet, "config"):
        raise wrong_type("unet", "a diffusers UNet2DConditionModel", unet)
    kinds = type(unet).__mro__
    if kinds[0].__module__.startswith("diffusers.") and "UNet2DConditionModel" not in (kind.__name__ for kind in kinds):
        raise wrong_type("unet", "a diffusers UNet2DConditionModel", unet)  # such as a UNet of videos or without text
    if not isinstance(vae, nn.Module) or not hasattr(vae, "config") or not hasattr(vae, "decode"):
        raise wrong_type("vae", "a diffusers AutoencoderKL", vae)
    if type(vae).__name__ == "AutoencoderKLTemporalDecoder":  # fits a UNet, but draws the frames of a video
        raise wrong_type("vae", "a diffusers AutoencoderKL", vae)
    check_weights(unet=unet, vae=vae)
    config: Any = unet.config
    for option, wanted in _ABSENT.items():
        if getattr(config, option, None) is not None:
            raise wrong_value(f"unet.config.{option}", wanted, getattr(config, option))
    added = getattr(config, "addition_embed_type", None)
    if added not in (None, "text_time"):
        raise wrong_value("unet.config.addition_embed_type", "None or 'text_time'", repr(added))
    decoder: Any = vae.config
    channels = decoder.latent_channels
    if (config.in_channels, config.out_channels) != (channels, channels):
        got = f"{config.in_channels} in and {config.out_channels} out"
        raise wrong_value("unet", f"{channels} channels in and out, as the vae's latents have", got)
    if getattr(decoder, "out_channels", 3) != 3:
        raise wrong_value("vae.config.out_channels", "3, the colours of a picture", decoder.out_channels)
    for option in ("latents_mean", "latents_std"):
        values = getattr(decoder, option, None)
        if values is not None and len(values) != channels:
            raise wrong_value(f"vae.config.{option}", f"None or {channels} numbers, one for each channel", values)


def check_guidance(guidance_scale: object) -> float:
    """Return a guidance scale as a float.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or below 1.
    """
    if not isinstance(guidance_scale, Real) or isinstance(guidance_scale, bool):
        raise wrong_type("guidance_scale", "a number", guidance_scale)
    scale = float(guidance_scale)
    if not (math.isfinite(scale) and scale >= 1):
        wanted = "a finite number of at least 1.0, which means no guidance (diffusers runs none below 1.0 either)"
        raise wrong_value("guidance_scale", wanted, guidance_scale)
    return scale


def check_rescale(guidance_rescale: object) -> float:
    """Return the strength of rescaled guidance as a float.

    Raises:
        TypeError: not a number.
        ValueError: outside [0, 1].
    """
    if not isinstance(guidance_rescale, Real) or isinstance(guidance_rescale, bool):
        raise wrong_type("guidance_rescale", "a number", guidance_rescale)
    strength = float(guidance_rescale)
    if not 0 <= strength <= 1:
        raise wrong_value("guidance_rescale", "a number from 0, which rescales nothing, to 1", guidance_rescale)
    return strength


def check_eta(eta: object) -> None:
    """Refuse fresh noise in DDIM's steps, which the sampler does not draw.

    Raises:
        TypeError: not a number.
        ValueError: a number other than 0.
    """
    if not isinstance(eta, Real) or isinstance(eta, bool):
        raise wrong_type("eta", "the number 0", eta)
    if eta != 0:
        raise wrong_value("eta", "0, DDIM without fresh noise", eta)


def check_backend(backend: object, memory: object) -> None:
    """Refuse an unknown backend, an invalid byte limit, and a byte limit for the reference, which cannot keep one.

    Raises:
        TypeError: ``backend`` is not text, or ``memory`` is neither a number nor text.
        ValueError: an unknown backend, an invalid number of bytes, or a limit for the reference.
    """
    if not isinstance(backend, str):
        raise wrong_type("backend", "'auto', 'reference' or 'fast'", backend)
    if backend not in BACKENDS:
        raise wrong_value("backend", "'auto', 'reference' or 'fast'", repr(backend))
    if parse_bytes(memory) is not None and backend == "reference":
        wanted = "'auto' or None with backend='reference', which keeps no limit (use 'auto' or 'fast')"
        raise wrong_value("memory", wanted, repr(memory))


def is_limited(backend: str, memory: object, device: torch.device | str) -> bool:
    """Whether a sampler with these options, and with models on this device, works under a byte limit."""
    limited = memory is not None and (memory != "auto" or torch.device(device).type == "cuda")
    return limited and backend != "reference"


def check_graphs(cuda_graphs: object, backend: str) -> bool | str:
    """Return whether CUDA graphs are wanted: True, False or "auto".

    Raises:
        TypeError: neither a bool nor text.
        ValueError: another text, or True for the reference.
    """
    wanted = "True, False or 'auto'"
    if not isinstance(cuda_graphs, bool | str):
        raise wrong_type("cuda_graphs", wanted, cuda_graphs)
    if isinstance(cuda_graphs, str) and cuda_graphs != "auto":
        raise wrong_value("cuda_graphs", wanted, repr(cuda_graphs))
    if cuda_graphs is True and backend == "reference":
        raise wrong_value("cuda_graphs", "'auto' or False with backend='reference', which has none", True)
    return cuda_graphs


def check_bytes(name: str, value: object, backend: str) -> None:
    """Refuse a value that is not a number of bytes, and every number of bytes for the reference.

    Args:
        name: name of the argument.
        value: value of the argument; None is allowed.
        backend: option of the sampler.

    Raises:
        TypeError: neither a number nor text.
        ValueError: an invalid number of bytes, "auto", or a number of bytes for the reference.
    """
    if parse_bytes(value, name) is None and value is not None:
        raise wrong_value(name, "None, a number of bytes, or text such as '16GiB'", repr(value))
    if value is not None and backend == "reference":
        raise wrong_value(name, "None with backend='reference', which plans no memory", repr(value))


def check_layout(layout: object, backend: str) -> None:
    """Refuse another layout than "keep" and "convert", and "convert" for the reference.

    Raises:
        TypeError: not text.
        ValueError: another text, or "convert" for the reference.
    """
    if not isinstance(layout, str):
        raise wrong_type("layout", "'keep' or 'convert'", layout)
    if layout not in ("keep", "convert"):
        raise wrong_value("layout", "'keep' or 'convert'", repr(layout))
    if layout == "convert" and backend == "reference":
        raise wrong_value("layout", "'keep' with backend='reference', which copies no weights", repr(layout))


def check_numerics(deterministic: object, retry_dtype: object, backend: str) -> None:
    """Refuse invalid values of both options, and both options for the reference.

    Raises:
        TypeError: ``deterministic`` is not a bool, or ``retry_dtype`` not a dtype.
        ValueError: another dtype, or either option for the reference.
    """
    if not isinstance(deterministic, bool):
        raise wrong_type("deterministic", "True or False", deterministic)
    wanted = "None, torch.bfloat16 or torch.float32"
    if retry_dtype is not None and not isinstance(retry_dtype, torch.dtype):
        raise wrong_type("retry_dtype", wanted, retry_dtype)
    if retry_dtype not in (None, torch.bfloat16, torch.float32):
        raise wrong_value("retry_dtype", wanted, retry_dtype)
    if backend == "reference" and deterministic:
        remedy = "False with backend='reference' (torch.use_deterministic_algorithms does it for all of torch)"
        raise wrong_value("deterministic", remedy, True)
    if backend == "reference" and retry_dtype is not None:
        raise wrong_value("retry_dtype", "None with backend='reference', which does not retry", retry_dtype)


def check_tensor(name: str, tensor: object, shape: tuple[int | str, ...], like: Tensor) -> None:
    """Refuse a value that is not a tensor of the wanted shape, dtype and device.

    Args:
        name: name of the argument.
        tensor: value of the argument.
        shape: wanted sizes; a letter stands for any size from 1, "1 or n" for 1 or the number n.
        like: a tensor of the wanted dtype, on the wanted device.

    Raises:
        TypeError: not a tensor.
        ValueError: wrong rank, size, dtype or device.
    """
    if not isinstance(tensor, Tensor):
        raise wrong_type(name, "a tensor", tensor)
    if tensor.ndim != len(shape) or not all(map(_fits, tensor.shape, shape)):
        raise wrong_value(name, f"shape [{', '.join(map(str, shape))}]", list(tensor.shape))
    if tensor.dtype != like.dtype:
        raise wrong_value(name, f"dtype {like.dtype}, as the unet has", tensor.dtype)
    if tensor.device != like.device:
        raise wrong_value(name, f"device {like.device}, where the unet is", tensor.device)


def _fits(size: int, wanted: int | str) -> bool:
    if isinstance(wanted, int):
        return size == wanted
    return size in map(int, wanted.split(" or ")) if " or " in wanted else size >= 1


def check_ready(unet: nn.Module, vae: nn.Module, inputs: Iterable[object]) -> Tensor:
    """Return a parameter of the UNet, whose dtype and device the inputs must have.

    Args:
        unet: the UNet.
        vae: the VAE.
        inputs: the other arguments of the call, of which those that are tensors may require grad.

    Raises:
        ValueError: the VAE is on another device. If a graph may be recorded: weights made in inference mode, through
            which autograd computes no gradient, layers that are quantised, or a module's own checkpointing, which would
            run a module again when it is no longer frozen.
    """
    weight, other = next(unet.parameters()), next(vae.parameters())
    if other.device != weight.device:
        raise wrong_value("vae", f"device {weight.device}, where the unet is", other.device)
    if torch.is_grad_enabled():
        asked = any(map(_asks, inputs))
        for name, module, before in (("unet", unet, [unet]), ("vae", vae, [unet, vae])):
            _check_fixed(name, module, asked, before)
            if asked or any(map(trainable, before)):
                check_unquantised(name, module)
            _check_no_checkpointing(name, module, " and gradient='checkpointed' instead")
    return weight


def check_single(name: str, module: nn.Module, inputs: Iterable[object], trained: bool) -> None:
    """Refuse a single call of the user's own module whose gradient the module itself would spoil.

    Args:
        name: "unet" or "vae".
        module: the UNet or the VAE.
        inputs: the arguments of the call, of which those that are tensors may require grad.
        trained: whether weights of the module get a gradient.

    Raises:
        ValueError: a graph is recorded, and ``check_ready`` would refuse the module.
    """
    if torch.is_grad_enabled() and (trained or any(map(_asks, inputs))):
        _check_fixed(name, module, True)
        check_unquantised(name, module)
        _check_no_checkpointing(name, module)


def _asks(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _check_fixed(name: str, module: nn.Module, asked: bool, before: Iterable[nn.Module] = ()) -> None:
    fixed = [parameter for parameter in module.parameters() if parameter.is_inference()]
    # The flag of such a weight stays as it is, see ``frozen``.
    if fixed and (asked or any(each.requires_grad for each in fixed) or any(map(trainable, before))):
        wanted = f"a {name} loaded outside torch.inference_mode(), or a call inside torch.no_grad()"
        raise wrong_value(name, wanted, "weights made in inference mode, through which there is no gradient")


def _check_no_checkpointing(name: str, module: nn.Module, instead: str = "") -> None:
    if any(getattr(submodule, "gradient_checkpointing", False) for submodule in module.modules()):
        wanted = f"{name}.disable_gradient_checkpointing(){instead}"
        raise wrong_value(f"{name}.gradient_checkpointing", wanted, True)
