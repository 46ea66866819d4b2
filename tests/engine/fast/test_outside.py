"""What hooks, processors and methods of the user read or keep: the gradient of plain autograd, or an error."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from diffexplain_fast.engine.fast.outside import ENTANGLED, KEPT, UNKNOWN
from tests.engine.fast.cases import cotangent_of, inputs_of
from tests.engine.fast.trained import assert_same, models_of, sampler_of
from tests.tiny import seeded

NAMES = ("prompt_embeds", "latents")


def draw(*shape):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return made.requires_grad_()


class WithPicture(AttnProcessor2_0):
    """Attention to more keys, as an IP-adapter's."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys

    def __call__(self, layer, hidden, encoder_hidden_states=None, **options):
        more = super().__call__(layer, hidden, self.keys.expand(len(hidden), -1, -1))
        return super().__call__(layer, hidden, encoder_hidden_states, **options) + 0.3 * more


def a_tensor(models, given):
    shift = draw(1, models.unet.config.block_out_channels[-1], 1, 1)
    models.unet.mid_block.register_forward_hook(lambda part, rows, output: output + shift)
    return [shift]


def in_the_decoder(models, given):
    shift = draw(1)
    models.vae.decoder.mid_block.register_forward_hook(lambda part, rows, output: output * shift)
    return [shift]


def in_both(models, given):
    shift = draw(1)
    for part in (models.unet.conv_in, models.vae.decoder.conv_in):
        part.register_forward_pre_hook(lambda part, rows: (rows[0] + shift,))
    return [shift]


def the_inputs(models, given):
    prompt, latents = given["prompt_embeds"], given["latents"]
    models.unet.mid_block.register_forward_hook(lambda part, rows, out: out + 5 * prompt.mean() * (1 + latents.mean()))
    return []


def a_processor(models, given):
    keys = draw(1, 3, models.unet.config.cross_attention_dim)
    layers = models.unet.attn_processors
    models.unet.set_attn_processor({name: WithPicture(keys) if "attn2" in name else layers[name] for name in layers})
    return [keys]


def a_buffer(models, given):
    models.unet.mid_block.register_buffer("shift", draw(1))
    models.unet.mid_block.register_forward_hook(lambda part, rows, output: output * part.shift)
    return [models.unet.mid_block.shift]


def another_network(models, given):
    network, forward = seeded(lambda: torch.nn.Conv2d(4, 4, 3, padding=1)).double(), models.unet.forward
    models.unet.forward = lambda rows, *more, **options: forward(rows + network(rows), *more, **options)
    return [*network.parameters()]


def computed_before(models, given):
    leaf = draw(1)
    shift = leaf.exp() * given["prompt_embeds"].square().mean()
    models.unet.mid_block.register_forward_hook(lambda part, rows, output: output * shift + leaf)
    return [leaf]


CASES = (a_tensor, in_the_decoder, in_both, the_inputs, a_processor, a_buffer, another_network, computed_before)


def gradients(install, backend, wanted=NAMES, twice=False, **options):
    models = models_of()
    given = {name: value.clone().requires_grad_(name in wanted) for name, value in inputs_of("sd15").items()}
    leaves = [*(given[name] for name in wanted), *install(models, given)]
    images = sampler_of(models, backend, **options)(**given)
    found = torch.autograd.grad(images, leaves, cotangent_of(images), retain_graph=True, allow_unused=True)
    if twice:
        found = torch.autograd.grad(images, leaves, cotangent_of(images), allow_unused=True)
    return dict(enumerate(found))


@pytest.mark.parametrize("install", CASES)
def test_the_gradient_is_that_of_plain_autograd(install):
    assert_same(gradients(install, "fast"), gradients(install, "reference"))


@pytest.mark.parametrize(
    "options", [{"kind": "dpm"}, {"gradient": "detached"}, {"gradient": "last:1"}, {"guidance": 1.0}, {"twice": True}]
)
@pytest.mark.parametrize("install", [in_both, computed_before])
def test_the_gradient_is_right_in_every_way_to_differentiate(install, options):
    assert_same(gradients(install, "fast", **options), gradients(install, "reference", **options))


@pytest.mark.parametrize("install", [a_tensor, in_the_decoder, in_both, another_network])
def test_images_require_grad_where_only_such_a_tensor_does(install):
    assert_same(gradients(install, "fast", ()), gradients(install, "reference", ()))


def test_such_a_tensor_beside_trained_weights():
    def install(models, given):
        models.unet.conv_out.bias.requires_grad_()
        models.vae.decoder.conv_in.weight.requires_grad_()
        return [*in_both(models, given), models.unet.conv_out.bias, models.vae.decoder.conv_in.weight]

    assert_same(gradients(install, "fast"), gradients(install, "reference"))


def the_prompt(models, given):
    return [given["prompt_embeds"]]


def a_later_weight(models, given):
    """Reaches what the hook keeps of the second step only through the latents."""
    return [models.unet.conv_out.bias.requires_grad_()]


def a_later_shift(models, given):
    shift = draw(1)
    models.unet.conv_out.register_forward_hook(lambda part, rows, output: output * shift)
    return [shift]


def loss_of_activations(backend, part, asked=the_prompt, change=lambda output: output, whole=False, before=False):
    """Gradient of a loss of images and activations, asked for by ``Tensor.backward`` if it is ``whole``."""
    models, seen = models_of(), []
    module = models.unet.mid_block if part == "unet" else models.vae.decoder.mid_block
    module.register_forward_hook(lambda module, rows, output: seen.append(change(output)))
    given = {name: value.clone().requires_grad_(asked is the_prompt) for name, value in inputs_of("sd15").items()}
    leaves = asked(models, given)
    images = sampler_of(models, backend)(**given)
    if before:  # what is kept of the last run belongs to a part that ran again
        torch.autograd.grad(images.sum(), leaves, retain_graph=True)
    loss = images.sum() + seen[-1].square().sum()
    if whole:
        loss.backward()
        return leaves[0].grad
    return torch.autograd.grad(loss, leaves)[0]


WAYS = [
    *(
        {"part": part, "asked": asked}
        for part in ("unet", "vae")
        for asked in (the_prompt, a_later_weight, a_later_shift)
    ),
    *({"part": part, "whole": True} for part in ("unet", "vae")),
]


def _text_of(way):
    return ", ".join(getattr(value, "__name__", str(value)) for value in way.values())


@pytest.mark.parametrize("way", WAYS, ids=_text_of)
def test_a_loss_of_activations_that_a_hook_kept_raises(way):
    with pytest.raises(RuntimeError, match="has no gradient in the fast backend") as raised:
        loss_of_activations("fast", **way)
    assert str(raised.value) == KEPT
    assert loss_of_activations("reference", **way).norm() > 0
    assert loss_of_activations("fast", change=torch.detach, **way).norm() > 0


@pytest.mark.parametrize("whole", [False, True])
def test_activations_of_a_part_that_ran_again_raise_too(whole):
    with pytest.raises(RuntimeError, match=r"has no gradient in the fast backend|second time"):
        loss_of_activations("fast", "unet", whole=whole, before=True)


@pytest.mark.parametrize("kept", [False, True])
def test_a_tensor_that_a_hook_makes_in_every_run(kept):
    """One that goes with the run gets no gradient anywhere; of one that is kept, it would be lost."""
    made = []

    def install(models, given):
        def hook(part, rows, output):
            shift = torch.ones(1, dtype=output.dtype, requires_grad=True)
            if kept:
                made.append(shift)
            return output + shift

        models.unet.mid_block.register_forward_hook(hook)
        return []

    if kept:
        with pytest.raises(RuntimeError, match="read another tensor") as raised:
            gradients(install, "fast")
        assert str(raised.value) == UNKNOWN
    else:
        assert_same(gradients(install, "fast"), gradients(install, "reference"))


def test_a_hook_may_differentiate_inside_of_a_run():
    def hook(part, rows, output):
        with torch.enable_grad():
            inner = output.detach().requires_grad_()
            return output - torch.autograd.grad(inner.tanh().square().sum(), inner)[0]

    def install(models, given):
        models.unet.mid_block.register_forward_hook(hook)
        return []

    assert_same(gradients(install, "fast"), gradients(install, "reference"))


def test_weights_that_are_trained_in_the_other_model_raise():
    def install(models, given):
        weight = models.vae.decoder.conv_in.bias.requires_grad_()
        models.unet.mid_block.register_forward_hook(lambda part, rows, output: output + weight.sum())
        return [weight]

    with pytest.raises(RuntimeError, match="trained in the other one") as raised:
        gradients(install, "fast")
    assert str(raised.value) == ENTANGLED
