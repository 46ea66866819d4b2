"""The wrappers of PEFT around a model, which hand every call on to it; adapters are in the layers of the model."""

from torch import nn

_WITHIN = {"PeftModel": "base_model", "PeftMixedModel": "base_model", "LoraModel": "model", "MixedModel": "model"}
"""By the name of a class of PEFT, the attribute with what it wraps."""


def wrapped(model: nn.Module) -> list[nn.Module]:
    """Return PEFT's wrappers of a model from outside to inside, as of ``peft.get_peft_model``, and the model at last.

    Args:
        model: a model, with wrappers or without.
    """
    found = [model]
    while (kind := type(found[-1])).__module__.partition(".")[0] == "peft" and kind.__name__ in _WITHIN:
        inner = getattr(found[-1], _WITHIN[kind.__name__])
        if not isinstance(inner, nn.Module):
            break
        found.append(inner)
    return found
