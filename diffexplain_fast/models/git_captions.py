"""Greedy captions of a GIT model of transformers: a picture is encoded once, and then every word is one short step.

``generate`` of transformers attends with explicit matrices of weights over all patches, and runs the last layer of the
text model on patches whose output nothing reads.

Source: J. Wang et al., "GIT: a generative image-to-text transformer for vision and language", TMLR 2022: patches attend
to one another, words to all patches and to the words before.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from transformers import GitForCausalLM
    from transformers.models.git.modeling_git import (
        GitLayer,
        GitSelfAttention,
        GitVisionAttention,
        GitVisionTransformer,
    )


def greedy_captions(model: "GitForCausalLM", pixels: Tensor, begin: int, end: int, length: int) -> Tensor:
    """Return the most probable caption of each picture, word by word, as ids [B, up to length].

    Args:
        model: a captioner of single pictures, in eval mode.
        pixels: [B, 3, H, W] as the model wants them.
        begin: id before the first word.
        end: id after the last word; a caption that is shorter than others of the batch is filled up with it.
        length: ids at most, with the one before the first word.

    Equivalent to: ``model.generate(pixel_values=pixels, input_ids=begin of each, max_length=length, do_sample=False)``
    """
    git = model.git
    layers, words = list(git.encoder.layer), git.embeddings
    ids = torch.full((len(pixels), 1), begin, device=pixels.device)
    hidden = git.visual_projection(_encoded(git.image_encoder.vision_model, pixels))
    patches, kept = hidden.shape[1], []
    for layer in layers:
        k, v = _keys(layer.attention.self, hidden)
        room = [x.new_empty(*x.shape[:2], patches + length, x.shape[3]) for x in (k, v)]
        for memory, x in zip(room, (k, v), strict=True):
            memory[:, :, :patches] = x
        kept.append(room)
        if layer is not layers[-1]:
            hidden = _through(layer, hidden, k, v)
    ended = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
    while ids.shape[1] < length and not ended.all():
        place = patches + ids.shape[1] - 1
        hidden = words(ids[:, -1:], past_key_values_length=ids.shape[1] - 1)
        for layer, room in zip(layers, kept, strict=True):
            for memory, x in zip(room, _keys(layer.attention.self, hidden), strict=True):
                memory[:, :, place : place + 1] = x
            hidden = _through(layer, hidden, *(memory[:, :, : place + 1] for memory in room))
        following = model.output(hidden[:, 0]).argmax(-1).masked_fill(ended, end)
        ended |= following == end
        ids = torch.cat([ids, following[:, None]], 1)
    return ids


def _encoded(vision: "GitVisionTransformer", pixels: Tensor) -> Tensor:
    """Return what the image encoder says of every patch, [B, patches, C]."""
    hidden: Tensor = vision.pre_layrnorm(vision.embeddings(pixels))
    for layer in vision.encoder.layers:
        attention, x = layer.self_attn, layer.layer_norm1(hidden)
        q, k, v = (_split(each(x), attention) for each in (attention.q_proj, attention.k_proj, attention.v_proj))
        hidden = hidden + attention.out_proj(_attended(q, k, v))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    normed: Tensor = vision.post_layernorm(hidden)
    return normed


def _keys(attention: "GitSelfAttention", hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values [B, heads, N, d] of hidden states [B, N, C]."""
    return _split(attention.key(hidden), attention), _split(attention.value(hidden), attention)


def _through(layer: "GitLayer", hidden: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return what a layer of the text model makes of hidden states [B, N, C] that see all keys."""
    attention = layer.attention
    seen = attention.output(_attended(_split(attention.self.query(hidden), attention.self), k, v), hidden)
    found: Tensor = layer.feed_forward_chunk(seen)
    return found


def _split(x: Tensor, attention: "GitSelfAttention | GitVisionAttention") -> Tensor:
    """Return [B, heads, N, d] of [B, N, heads d]."""
    heads = attention.num_attention_heads if hasattr(attention, "num_attention_heads") else attention.num_heads
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
