"""A check that a pipeline draws only from text, by its components and by the arguments of its call."""

import inspect
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from diffexplain_fast.errors import wrong_value

_PLAIN = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_PARTS = (
    *("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    *("safety_checker", "feature_extractor", "image_encoder"),  # only an IP-adapter uses the last one
)
"""Components of a text-to-image pipeline."""
_HARMLESS = frozenset(("callback", "callback_steps", "original_inference_steps"))
"""Arguments of a call that plain pipelines lack, but that are not a further input to draw from."""


class More(NamedTuple):
    """A further input, in addition to text, from which some pipelines draw.

    Attributes:
        name: usual name of the input.
        components: names of components that only such pipelines have.
        arguments: names of arguments that only their calls have.
        instead: pipeline to pass to the sampler instead; "{plain}" stands for the class of the text-to-image pipeline.
    """

    name: str
    components: tuple[str, ...]
    arguments: tuple[str, ...]
    instead: str


_SAME_PARTS = "{plain}.from_pipe(pipe), which draws only from the text"
MORE = (
    More("ControlNet", ("controlnet",), ("controlnet_conditioning_scale", "control_image"), _SAME_PARTS),
    More("T2I adapter", ("adapter",), ("adapter_conditioning_scale",), _SAME_PARTS),
    More(
        "AnimateDiff",
        ("motion_adapter",),
        (),
        "the text-to-image pipeline whose UNet the motion module was added to",
    ),
    More("frames of a video", (), ("num_frames", "video_length", "video"), "a text-to-image pipeline"),
    More(
        "InstructPix2Pix",
        (),
        ("image_guidance_scale",),
        "a text-to-image pipeline; this UNet has input channels for a picture",
    ),
    More("inpainting", (), ("mask_image", "masked_image_latents"), "a text-to-image pipeline with a UNet of 4 inputs"),
    More("image-to-image", (), ("image", "strength", "init_image", "image_latents"), _SAME_PARTS),
    More("perturbed-attention guidance", (), ("pag_scale",), _SAME_PARTS),
    More("self-attention guidance", (), ("sag_scale",), _SAME_PARTS),
    More("GLIGEN boxes", (), ("gligen_boxes", "gligen_phrases"), "a text-to-image pipeline without grounding layers"),
)
"""Inputs that are refused by their usual name, the most specific first; others are refused by the argument's name."""
IP_ADAPTER = More("IP-adapter", (), (), "the same pipeline after pipe.unload_ip_adapter()")
"""An IP-adapter is loaded into the UNet of any pipeline; neither a component nor an argument shows it."""


def check_text_to_image(pipe: object, argument: str = "pipe") -> None:
    """Refuse a pipeline that draws from more than text; the message names a pipeline to pass instead.

    Args:
        pipe: diffusers pipeline object, a subclass or a community pipeline; objects of other kinds are checked too.
        argument: name of the argument in the message.

    Raises:
        ValueError: the pipeline draws from more than text; the message names the further input.
    """
    for more, sign in more_than_text(pipe):
        plain = _PLAIN[getattr(pipe, "text_encoder_2", None) is not None]
        wanted = f"a text-to-image Stable Diffusion pipeline ({more.instead.format(plain=plain)})"
        raise wrong_value(argument, wanted, f"{type(pipe).__name__}, which draws from {more.name} too ({sign})")


def more_than_text(pipe: object) -> Iterator[tuple[More, str]]:
    """Yield the inputs of a pipeline in addition to text, each with the sign of it, the most specific first.

    Args:
        pipe: as in ``check_text_to_image``.
    """
    named, other = _components(pipe)
    for more in MORE:
        for component in more.components:
            if component in named or component in other:
                yield more, f"its component {component!r}"
    kind = getattr(getattr(getattr(pipe, "unet", None), "config", None), "encoder_hid_dim_type", None)
    if kind == "ip_image_proj":
        yield IP_ADAPTER, "unet.config.encoder_hid_dim_type 'ip_image_proj'"
    arguments = _arguments(pipe)
    for more in MORE:
        for name in more.arguments:
            if name in arguments:
                yield more, f"the argument {name!r} of its call"
    for component in named:
        if component not in _PARTS:
            yield More(f"its component {component!r}", (), (), _SAME_PARTS), "not a part of a text-to-image pipeline"
    for name in arguments:
        yield More(f"the argument {name!r} of its call", (), (), _SAME_PARTS), "not an argument of a text-to-image call"


def _components(pipe: object) -> tuple[list[str], list[str]]:
    """Return the names of a pipeline's registered components and of its other attributes, if they are not None."""
    config = getattr(pipe, "config", None)
    registered = [name for name, entry in config.items() if _is_entry(entry)] if isinstance(config, Mapping) else []
    registered_names = [name for name in registered if getattr(pipe, name, None) is not None]
    return registered_names, [name for name, value in getattr(pipe, "__dict__", {}).items() if value is not None]


def _is_entry(entry: object) -> bool:
    """Return whether a value of a pipeline's configuration names a component by library and class."""
    return isinstance(entry, list | tuple) and len(entry) == 2 and all(isinstance(name, str) for name in entry)


def _arguments(pipe: object) -> list[str]:
    """Return the arguments of a pipeline's call that a text-to-image call does not have."""
    if not callable(pipe):
        return []
    try:
        parameters = inspect.signature(type(pipe).__call__).parameters
    except (TypeError, ValueError):  # code without a signature
        return []
    import diffusers  # takes seconds, but a user with such a pipeline has already imported it

    plain = {name for kind in _PLAIN for name in inspect.signature(getattr(diffusers, kind).__call__).parameters}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own_names = [name for name, parameter in parameters.items() if parameter.kind not in variable]
    return [name for name in own_names if name not in plain | _HARMLESS]
