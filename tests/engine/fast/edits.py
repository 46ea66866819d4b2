"""What a user may do to a pipeline's models: edits that the fast engine knows, and those it leaves to the models."""

import copy
from functools import wraps
from types import MethodType

import torch
from diffusers import AutoencoderKL
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.prune import l1_unstructured


class Doubled(ResnetBlock2D):
    """A block that computes something else than its class's."""

    def forward(self, *arguments, **options):
        return 2 * super().forward(*arguments, **options)


class Louder(AttnProcessor2_0):
    """A processor of the user's own."""

    def __call__(self, *arguments, **options):
        return 1.5 * super().__call__(*arguments, **options)


Louder.__name__ = "AttnProcessor2_0"  # nobody is known by name alone


class LoraLike(nn.Module):
    """A layer with a low-rank change, in the manner of PEFT."""

    merged, disable_adapters, active_adapters = False, False, ("default",)

    def __init__(self, base, **options):
        super().__init__()
        self.base_layer, self.scaling = base, {"default": 0.5}
        draw = torch.Generator().manual_seed(0)
        down, up = (
            nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in ((base.in_features, 2), (2, base.out_features))
        )
        for layer in (down, up):
            layer.weight = nn.Parameter(torch.randn(layer.weight.shape, generator=draw, dtype=torch.float64))
        self.lora_A, self.lora_B = nn.ModuleDict({"default": down}), nn.ModuleDict({"default": up})
        vars(self).update(options)

    def get_delta_weight(self, adapter):
        return self.scaling[adapter] * self.lora_B[adapter].weight @ self.lora_A[adapter].weight

    def forward(self, x):
        if self.disable_adapters:
            return self.base_layer(x)
        change = self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))
        return self.base_layer(x) + change * (2 if any(getattr(self, "use_dora", {}).values()) else 1)


def block_of(pipe):
    return pipe.unet.mid_block.attentions[0].transformer_blocks[0]


def lora(pipe, **options):
    block = block_of(pipe)
    block.attn2.to_k = LoraLike(block.attn2.to_k, **options)
    block.ff.net[2] = LoraLike(block.ff.net[2], **options)


def in_place(pipe):
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(1.5)


def through_data(pipe):
    pipe.unet.mid_block.resnets[0].conv1.weight.data.mul_(1.01)


def linear_through_data(pipe):
    pipe.unet.time_embedding.linear_2.weight.data[0] += 0.1


def another_weight(pipe):
    pipe.vae.decoder.conv_in.weight = nn.Parameter(1.5 * pipe.vae.decoder.conv_in.weight.detach())


def another_module(pipe):
    block_of(pipe).ff = copy.deepcopy(block_of(pipe).ff)
    block_of(pipe).ff.net[2].bias.data += 1


def another_config(pipe):
    pipe.vae.register_to_config(scaling_factor=0.5)


def another_eps(pipe):
    pipe.unet.conv_norm_out.eps = 0.1


def plain_processor(pipe):
    pipe.unet.set_attn_processor(AttnProcessor())


def negated_through_data(pipe):
    pipe.unet.mid_block.resnets[0].conv1.weight.data.neg_()


def reordered_through_data(pipe):
    weight = pipe.unet.down_blocks[0].resnets[0].conv1.weight.data
    weight.copy_(weight.roll(1, 0))


STILL_KNOWN = (in_place, through_data, linear_through_data, another_weight, another_module, another_config, another_eps)
STILL_KNOWN += (plain_processor, lora, negated_through_data, reordered_through_data)


def own_processor(pipe):
    block_of(pipe).attn1.set_processor(Louder())


def own_block(pipe):
    pipe.unet.mid_block.resnets[0].__class__ = Doubled


def own_forward(pipe):
    resnet = pipe.unet.mid_block.resnets[0]
    plain = resnet.forward
    resnet.forward = lambda *given: 2 * plain(*given)


def own_scale(pipe):
    pipe.unet.set_attn_processor(AttnProcessor())
    block_of(pipe).attn1.scale *= 2


def freeu(pipe):
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


def sliced(pipe):
    pipe.unet.set_attention_slice(1)


def tiled(pipe):
    pipe.vae.enable_slicing()


def hook(pipe):
    pipe.unet.mid_block.register_forward_hook(lambda module, given, output: output * 1.5)


def pre_hook(pipe):
    pipe.vae.decoder.register_forward_pre_hook(lambda module, given: (given[0] * 1.5,))


def backward_hook(pipe):
    pipe.unet.mid_block.register_full_backward_hook(lambda module, before, after: (2 * before[0], *before[1:]))


def another_kind_of_lora(pipe):
    lora(pipe, use_dora={"default": True})


def another_activation(pipe):
    pipe.unet.conv_act = nn.Tanh()


def hook_on_everything(pipe):
    register_module_forward_hook(lambda part, given, output: 1.5 * output if isinstance(part, nn.Conv2d) else None)


def another_class(pipe):
    plain = ResnetBlock2D.forward
    ResnetBlock2D.forward = lambda *given, **options: 1.5 * plain(*given, **options)


def tiling(pipe):
    """Asymmetric tiling as in community pipelines: pictures whose left side fits their right side."""

    def padded(layer, rows, weight, bias):
        around = nn.functional.pad(rows, (layer.padding[1], layer.padding[1], 0, 0), mode="circular")
        around = nn.functional.pad(around, (0, 0, layer.padding[0], layer.padding[0]))
        return nn.functional.conv2d(around, weight, bias, layer.stride)

    for layer in pipe.unet.modules():
        if isinstance(layer, nn.Conv2d):
            layer._conv_forward = MethodType(padded, layer)


def _doubled_result(kind, method):
    plain = getattr(kind, method)
    setattr(kind, method, lambda *given, **options: 2 * plain(*given, **options))


def another_class_of_torch(pipe):
    _doubled_result(nn.Linear, "forward")


def another_part_of_a_class_of_torch(pipe):
    _doubled_result(nn.Conv2d, "_conv_forward")


def another_part_of_a_class(pipe):
    _doubled_result(GEGLU, "gelu")


def a_decorated_class(pipe):
    plain = FeedForward.forward
    FeedForward.forward = wraps(plain)(lambda *given, **options: 2 * plain(*given, **options))


def another_decode_of_the_class(pipe):
    plain = AutoencoderKL.decode
    AutoencoderKL.decode = lambda vae, latents, **options: plain(vae, latents / 2, **options)


def another_processor_class(pipe):
    plain = AttnProcessor2_0.__call__
    AttnProcessor2_0.__call__ = lambda *given, **options: 1.5 * plain(*given, **options)


def a_decorated_processor_class(pipe):
    plain = AttnProcessor2_0.__call__
    AttnProcessor2_0.__call__ = wraps(plain)(lambda *given, **options: 1.5 * plain(*given, **options))


_BLOCK = "mid_block.attentions.0.transformer_blocks.0"
UNKNOWN = {
    own_processor: f"{_BLOCK}.attn1.processor: {__name__}.AttnProcessor2_0 where diffusers' AttnProcessor",
    own_block: f"mid_block.resnets.0: {__name__}.Doubled where diffusers' ResnetBlock2D was expected",
    own_forward: "another forward on mid_block.resnets.0",
    own_scale: f"{_BLOCK}.attn1: attention with a scale of its own",
    freeu: "FreeU",
    sliced: ".processor: diffusers.models.attention_processor.SlicedAttnProcessor where",
    tiled: "a tiled or sliced VAE",
    hook: "a hook on mid_block",
    pre_hook: "a hook on decoder",
    backward_hook: "a hook on mid_block",
    another_kind_of_lora: f"{_BLOCK}.attn2.to_k: a LoRA with magnitudes, biases or a variant of its own",
    another_activation: "conv_act: another activation before the last convolution, torch.nn.modules.activation.Tanh",
    hook_on_everything: "a hook on all modules",
    another_class: "down_blocks.0.resnets.0: diffusers.models.resnet.ResnetBlock2D computes by tests.engine.fast",
    tiling: "another _conv_forward on conv_in",
    another_class_of_torch: "time_embedding.linear_1: torch.nn.modules.linear.Linear computes by tests",
    another_part_of_a_class_of_torch: "in place of _conv_forward",
    another_part_of_a_class: "GEGLU computes by tests.engine.fast.edits",
    a_decorated_class: "FeedForward computes by tests.engine.fast.edits.a_decorated_class",
    another_decode_of_the_class: "AutoencoderKL computes by tests.engine.fast.edits",
    another_processor_class: "AttnProcessor2_0 computes by tests.engine.fast.edits",
    a_decorated_processor_class: "AttnProcessor2_0 computes by tests.engine.fast.edits",
}


class Remembering(AttnProcessor2_0):
    """A processor that leaves its output in the layer."""

    def __call__(self, layer, *arguments, **options):
        layer.output = super().__call__(layer, *arguments, **options)
        return layer.output


def storing_hook(pipe):
    pipe.unet.mid_block.register_forward_hook(lambda part, given, output: setattr(part, "features", output))


def counting_hook(pipe):
    pipe.unet.calls = 0
    pipe.unet.register_forward_pre_hook(lambda part, given: setattr(part, "calls", part.calls + 1))


def collecting_hook(pipe):
    pipe.vae.seen = []
    pipe.vae.decoder.register_forward_hook(lambda part, given, output: pipe.vae.seen.append(output.detach()))


def storing_backward_hook(pipe):
    pipe.unet.mid_block.register_full_backward_hook(lambda part, before, after: setattr(part, "grads", after))


def storing_processor(pipe):
    pipe.unet.set_attn_processor(Remembering())


def pruned(pipe):
    l1_unstructured(pipe.unet.conv_out, "weight", 0.5)  # computes the weight in every run, by a hook


WRITING = (storing_hook, counting_hook, collecting_hook, storing_backward_hook, storing_processor, pruned)
"""Edits after which a run of a model writes into its modules."""
PATCHED = [
    (ResnetBlock2D, "forward"),
    (AttnProcessor2_0, "__call__"),
    (nn.Linear, "forward"),
    (nn.Conv2d, "_conv_forward"),
]
PATCHED += [(FeedForward, "forward"), (GEGLU, "gelu"), (AutoencoderKL, "decode")]
"""Classes that the edits change, each with the method."""
