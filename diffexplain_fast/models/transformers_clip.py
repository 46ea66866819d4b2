"""CLIP text encoders: vocabulary, token ids and soft tokens in place of real ones."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.constants import constant
from diffexplain_fast.models.frozen import frozen

_CONFIG = "clip_text_model"
_WORD_END = "</w>"
_SPECIAL_SHARE = 2
"""Begin and end take two places of every prompt."""


class TextStates(NamedTuple):
    """What a text encoder says about prompts: hidden states [B, L, d] and, with a projection, pooled text [B, p]."""

    last: Tensor
    penultimate: Tensor
    pooled: Tensor | None


@contextmanager
def soft_prompt(text_encoder: nn.Module, soft: Tensor, start: int) -> Iterator[None]:
    """Let the token embeddings [start, start + n) be ``soft``, equal to real tokens, while the context is open.

    Args:
        text_encoder: transformers model with ``get_input_embeddings``.
        soft: token embeddings [n, d] or [B, n, d].
        start: place of the first soft token; the begin token is place 0.
    """

    def replace(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        n = soft.shape[-2]
        middle = soft.to(out.dtype).expand(out.shape[0], -1, -1)
        return torch.cat([out[:, :start], middle, out[:, start + n :]], dim=1)

    handle = text_encoder.get_input_embeddings().register_forward_hook(replace)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _penultimate(text_encoder: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what enters the last layer; ``output_hidden_states`` would leave transformers' hooks in the module."""
    depth, found = text_encoder.config.num_hidden_layers, []  # type: ignore[union-attr]
    layers = next(m for m in text_encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)

    def collect(module: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    handle = layers[-1].register_forward_pre_hook(collect, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


class ClipText:
    """A CLIP text encoder with its tokenizer; both stay as they are.

    Args:
        tokenizer: transformers CLIPTokenizer.
        encoder: CLIPTextModel or CLIPTextModelWithProjection.
        argument: name of the encoder in messages.

    Raises:
        ValueError: the encoder is not a CLIP text encoder.
    """

    def __init__(self, tokenizer: Any, encoder: Any, argument: str = "text_encoder") -> None:
        kind = getattr(getattr(encoder, "config", None), "model_type", None)
        if kind != _CONFIG:
            raise wrong_value(argument, "a CLIP text encoder (CLIPTextModel, CLIPTextModelWithProjection)", kind)
        self.tokenizer, self.encoder = tokenizer, encoder
        self.context = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        self.width: int = encoder.get_input_embeddings().weight.shape[1]
        self.special = {tokenizer.bos_token_id, tokenizer.eos_token_id, *tokenizer.all_special_ids}

    @property
    def max_tokens(self) -> int:
        """Room between begin and end."""
        return self.context - _SPECIAL_SHARE

    @property
    def table(self) -> Tensor:
        """Token embeddings [vocabulary, d], special tokens included."""
        return self.encoder.get_input_embeddings().weight.detach()

    @cached_property
    def vocabulary(self) -> dict[int, str]:
        """Id and spelling of every token that is not special, without the end-of-word mark."""
        spelt = {}
        for token, i in sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if i not in self.special and i < len(self.table):
                plain = token.removesuffix(_WORD_END)
                # Beyond ASCII the vocabulary spells bytes; bytes that are no whole character stay spelt so.
                text = plain if plain.isascii() else self.tokenizer.decode([i])
                spelt[i] = plain if not text or "\N{REPLACEMENT CHARACTER}" in text else text
        return spelt

    @cached_property
    def words(self) -> dict[int, str]:
        """Id and spelling of the tokens that are words: whole, no bare letter but "a", and with a trained embedding."""
        norms = self.table.norm(dim=-1).tolist()
        tokens = self.tokenizer.convert_ids_to_tokens(list(self.vocabulary))
        return {
            i: word
            for token, (i, word) in zip(tokens, self.vocabulary.items(), strict=True)
            if token.endswith(_WORD_END) and (len(word) > 1 or word == "a") and word.isalpha() and norms[i] > 0
        }

    @property
    def placeholder(self) -> int:
        """An ordinary token whose embedding soft tokens replace: the end must stay the only end."""
        return next(iter(self.vocabulary))

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text without begin and end."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids if text else []

    def known_ids(self, argument: str, text: str) -> list[int]:
        """Return ``ids``, or raise ValueError if the tokenizer cannot spell the text."""
        ids = self.ids(text)
        if any(i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) for i in ids):
            raise wrong_value(argument, "text whose every character the tokenizer knows", repr(text))
        return ids

    def rows(self, bodies: Sequence[Sequence[int]], length: int) -> Tensor:
        """Return ids [B, length]: begin, body, end, padding."""
        begin, end, pad = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        padded = [(begin, *body, end, *[pad] * (length - len(body) - _SPECIAL_SHARE)) for body in bodies]
        return constant(tuple(padded), torch.long, self.table.device)

    def encode(self, ids: Tensor, soft: Tensor | None = None, start: int = 0) -> TextStates:
        """Encode ids [B, L], with soft tokens [n, d] or [B, n, d] from place ``start`` on; differentiable in them."""
        with ExitStack() as stack:
            stack.enter_context(frozen(self.encoder))
            before_last = stack.enter_context(_penultimate(self.encoder))
            if soft is not None:
                stack.enter_context(soft_prompt(self.encoder, soft, start))
            out = self.encoder(ids)
        return TextStates(out.last_hidden_state, before_last[0], getattr(out, "text_embeds", None))
