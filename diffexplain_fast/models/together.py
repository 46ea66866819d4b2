"""A check that the components of a pipeline can work together."""

from collections.abc import Mapping

from torch import nn

from diffexplain_fast.errors import wrong_value


def checked_together(modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    """Return components, of which all are on one device, and the denoiser and the text encoders in one dtype.

    The dtype of the autoencoder may be another one.

    Args:
        modules: the components by the names that diffusers gives them.

    Raises:
        ValueError: names every component with its device, or the denoiser and the text encoders with their dtypes.
    """
    weights = {name: next(module.parameters()) for name, module in modules.items()}
    devices = {name: weight.device for name, weight in weights.items()}
    if len(set(devices.values())) > 1:
        raise wrong_value("pipeline", "all components on one device", devices)
    dtypes = {name: weight.dtype for name, weight in weights.items() if name != "vae"}
    if len(set(dtypes.values())) > 1:
        raise wrong_value("pipeline", "the unet and every text encoder in one dtype", dtypes)
    return list(modules.values())
