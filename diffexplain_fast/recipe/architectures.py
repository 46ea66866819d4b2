"""Three small classifiers of different build: convolutions, attention, and a mixer of tokens."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffexplain_fast.recipe.classifiers import build_resnet

MODELS = ("cnn", "vit", "mixer")
_WIDTH, _DEPTH, _HEADS, _SIDE = 64, 2, 4, 8
_STEM = ((3, 24, 7, 2), (24, 48, 3, 1), (48, 48, 3, 1), (48, _WIDTH, 3, 2), (_WIDTH, _WIDTH, 3, 1))
"""Channels in and out, side and stride of the convolutions; a pooling by two follows the first."""


class Attention(nn.Module):
    """Self-attention of tokens [B, T, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, T, C]."""
        batch, count, _ = tokens.shape
        parts = self.inside(tokens).view(batch, count, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.outside(found.transpose(1, 2).reshape(batch, count, -1))


class TokenMixing(nn.Module):
    """One network over the places of every channel, of tokens [B, T, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(_SIDE**2, 2 * _SIDE**2), nn.GELU(), nn.Linear(2 * _SIDE**2, _SIDE**2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, T, C]."""
        return self.net(tokens.transpose(1, 2)).transpose(1, 2)


class Block(nn.Module):
    """Tokens that look at one another, then each through a network of its own; both added to what came in.

    Args:
        mixing: what lets tokens look at one another.
    """

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.mixing = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH), mixing
        self.net = nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens [B, T, C]."""
        tokens = tokens + self.mixing(self.first(tokens))
        return tokens + self.net(self.second(tokens))


class TokenClassifier(nn.Module):
    """A classifier of 64-pixel pictures as 8 by 8 tokens, which a few convolutions make, so that it learns in a minute.

    Args:
        labels: how many classes.
        mixing: makes what lets the tokens of a block look at one another.

    Source: Dosovitskiy et al., "An image is worth 16x16 words" (2021); Tolstikhin et al., "MLP-Mixer" (2021); the stem
    of Xiao et al., "Early convolutions help transformers see better" (2021).
    """

    def __init__(self, labels: int, mixing: Callable[[], nn.Module]) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for before, after, side, stride in _STEM:
            stem += [nn.Conv2d(before, after, side, stride, side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        stem.insert(3, nn.MaxPool2d(2))
        self.stem = nn.Sequential(*stem)
        self.places = nn.Parameter(0.02 * torch.randn(1, _SIDE**2, _WIDTH))
        self.blocks = nn.ModuleList(Block(mixing()) for _ in range(_DEPTH))
        self.norm, self.head = nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, labels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, labels] of pixels [B, 3, 64, 64] in [0, 1]."""
        tokens = self.stem(pixels).flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean(1))


class Logits(nn.Module):
    """A classifier in the format of transformers as one that returns its logits.

    Args:
        net: takes ``pixel_values`` and returns an object with ``logits``.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [B, labels] of pixels [B, 3, 64, 64] in [0, 1]."""
        logits: Tensor = self.net(pixel_values=pixels).logits
        return logits


def build_model(name: str, labels: list[str]) -> nn.Module:
    """Return an untrained classifier of 64-pixel pictures.

    Args:
        name: one of ``MODELS``.
        labels: names of the classes.
    """
    if name == "cnn":
        return Logits(build_resnet(labels))
    return TokenClassifier(len(labels), Attention if name == "vit" else TokenMixing)
