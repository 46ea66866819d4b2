"""The best stack that people can assemble today, as launches: a compiled UNet in a hand-written, recorded loop.

Its iteration was measured on one H200 (502.4 ms), so the model has to reproduce that figure before a prediction of ours
is worth reading. What a compiler fuses is traced: elementwise work joins the kernel that made its input, a group norm
has a kernel for its statistics, and products, convolutions and attention stay kernels of their own.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from diffexplain_fast.engine.memory.counting import Options
from diffexplain_fast.engine.memory.flop import Arguments
from diffexplain_fast.models.public import PUBLIC, public_models
from diffexplain_fast.ops.attention import CUDNN_DIMS, attention
from diffexplain_fast.prediction.launches import Launch, Launches, is_free, tensors_in
from diffexplain_fast.prediction.rates import Gpu, milliseconds

MEASURED_MS = 502.4
"""Median of the row manual_compile_graph_cl on one H200: 20 steps, guidance, 512 pixels, every step computed again."""
_HEAVY = ("convolution", "product", "attention")


class _Cluster:
    """One fused kernel: the storages that it reads from outside and those that it makes."""

    def __init__(self, first: int) -> None:
        self.first, self.reads, self.makes = first, dict[int, int](), dict[int, int]()


class FusedLaunches(Launches):
    """Notes launches as a compiler that fuses elementwise work would make them.

    A storage that is made in a cluster and read only there is never written.
    """

    apart = False

    def __init__(self) -> None:
        super().__init__()
        self._clusters: list[_Cluster] = []
        self._made_by: dict[int, _Cluster] = {}
        self._times: dict[int, int] = {}
        self._alive: list[Tensor] = []  # a storage's address names it only while it lives
        self._escaping: set[int] = set()

    def run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation, and fuse it or note its launch."""
        before = len(self.noted)
        out = super().run(func, args, kwargs)
        if is_free(func):
            return out
        mine, self.noted = self.noted[before:], self.noted[:before]
        inputs, outputs = tensors_in([args, list(kwargs.values())]), tensors_in([out])
        self._alive += [*inputs, *outputs]
        if any(launch.family in _HEAVY for launch in mine):
            self.noted += mine
            self._read(inputs, None)
        else:
            self._fuse(inputs, outputs, reduces="group_norm" in func._schema.name)
        self._times |= {_key(tensor): len(self._alive) for tensor in outputs}
        return out

    def launches(self) -> list[Launch]:
        """Return all launches, those of the fused kernels last."""
        fused = []
        for cluster in self._clusters:
            written = sum(size for key, size in cluster.makes.items() if key in self._escaping)
            fused.append(Launch("pointwise", "fused", 0.0, sum(cluster.reads.values()) + written))
        return [*self.noted, *fused]

    def _fuse(self, inputs: list[Tensor], outputs: list[Tensor], reduces: bool) -> None:
        cluster = self._joined(inputs)
        if cluster is None or reduces:
            if reduces:
                self.noted.append(Launch("norm", "statistics", 0.0, max(tensor.nbytes for tensor in inputs)))
            cluster = _Cluster(len(self._alive))
            self._clusters.append(cluster)
        self._read(inputs, cluster)
        for tensor in outputs:
            cluster.makes[_key(tensor)] = tensor.nbytes
            self._made_by[_key(tensor)] = cluster

    def _joined(self, inputs: list[Tensor]) -> _Cluster | None:
        """Return the latest cluster among the makers of the inputs, if no other input is younger than its start."""
        makers = [maker for tensor in inputs if (maker := self._made_by.get(_key(tensor))) is not None]
        if not makers:
            return None
        latest = max(makers, key=lambda maker: maker.first)
        others = [tensor for tensor in inputs if self._made_by.get(_key(tensor)) is not latest]
        return latest if all(self._times.get(_key(tensor), 0) <= latest.first for tensor in others) else None

    def _read(self, inputs: list[Tensor], cluster: _Cluster | None) -> None:
        for tensor in inputs:
            maker = self._made_by.get(_key(tensor))
            if maker is None or maker is not cluster:
                self._escaping.add(_key(tensor))
                if cluster is not None:
                    cluster.reads[_key(tensor)] = tensor.nbytes


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Projections(Protocol):
    """What the processor below reads of diffusers' ``Attention``."""

    heads: int
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    to_out: Sequence[nn.Module]
    group_norm: nn.Module


class _Attend:
    """diffusers' plain attention processor over one kernel: cuDNN's, which torch took where the stack was measured."""

    def __call__(
        self,
        attn: _Projections,
        hidden: Tensor,
        encoder_hidden_states: Tensor | None = None,
        temb: Tensor | None = None,
        **unused: object,
    ) -> Tensor:
        # diffusers passes the embedding of the time too, and warns of a processor whose signature does not have it
        shape, residual = hidden.shape, hidden
        if hidden.ndim == 4:
            hidden = attn.group_norm(hidden.flatten(2)).transpose(1, 2)
        text = hidden if encoder_hidden_states is None else encoder_hidden_states
        heads = [
            project(x).unflatten(-1, (attn.heads, -1))
            for project, x in ((attn.to_q, hidden), (attn.to_k, text), (attn.to_v, text))
        ]
        one = attention(*heads, impl="cudnn" if heads[0].shape[-1] in CUDNN_DIMS else "reference").flatten(2)
        out = attn.to_out[0](one)
        return out if len(shape) == 3 else out.transpose(1, 2).reshape(shape) + residual


def compiled_milliseconds(gpu: Gpu, steps: int = 20) -> float:
    """Return the predicted time of the measured iteration: Stable Diffusion 1.5 with guidance, a ResNet-50 at its end.

    Args:
        gpu: the card.
        steps: denoising steps, each run forward twice and backward once.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    unet, vae = public_models("sd15", torch.bfloat16)
    with torch.device("meta"):
        classifier = ResNetForImageClassification(ResNetConfig()).eval().requires_grad_(False).to(torch.bfloat16)
        sample = torch.empty(1, 4, 64, 64, dtype=torch.bfloat16, requires_grad=True)
        text = torch.empty(2, PUBLIC["sd15"].tokens, 768, dtype=torch.bfloat16, requires_grad=True)
        time = torch.empty(1, dtype=torch.long)
    for model in (unet, vae):
        model.set_attn_processor(_Attend())

    def step() -> Tensor:
        unconditional, conditional = unet(torch.cat([sample, sample]), time, text, return_dict=False)[0].chunk(2)
        return 0.9 * sample + 0.1 * (unconditional + 7.5 * (conditional - unconditional))

    def head() -> Tensor:
        images = vae.decode(sample / 0.18215, return_dict=False)[0]
        small = nn.functional.interpolate(images.float(), (224, 224), mode="bilinear", antialias=True)
        return classifier(small.to(torch.bfloat16)).logits

    forward, backward = _both(step, [sample, text])
    ends = [part for way in _both(head, [sample]) for part in way]
    return sum(milliseconds([*steps * (2 * forward + backward), *ends], gpu).values())


def _both(function: Callable[[], Tensor], inputs: list[Tensor]) -> tuple[list[Launch], list[Launch]]:
    """Return the launches of a function's forward and of its backward."""
    with FusedLaunches() as forward:
        out = function()
    with FusedLaunches() as backward:
        torch.autograd.grad(out, inputs, torch.empty_like(out))
    return forward.launches(), backward.launches()
