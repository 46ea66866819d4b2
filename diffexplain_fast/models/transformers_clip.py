"""CLIP text encoders: vocabulary, token ids and soft tokens in place of real ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.added_words import added_words
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.hooked import uncompiled
from diffexplain_fast.models.labels import check_text
from diffexplain_fast.ops._constants import constant

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

_CONFIG = "clip_text_model"
_WORD_END = "</w>"
_FEWEST_WORDS = 2
"""Least number of words of a vocabulary for soft prompts; with fewer, all trained tokens are used."""
_FEWEST_LETTERS = 2
"""Letters of each token, on average, of a word that is more than one token."""
_SPECIAL_SHARE = 2
"""Number of places that begin and end take in every prompt."""


class Tokens(Protocol):
    """The result of a tokenizer for a text."""

    @property
    def input_ids(self) -> list[int]:
        """Token ids."""


class Tokenizer(Protocol):
    """The methods of a tokenizer of transformers that are used here."""

    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    all_special_ids: list[int]
    model_max_length: int

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> Tokens:
        """Return the tokens of a text."""

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of tokens."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Return tokens as the vocabulary spells them."""


class TextStates(NamedTuple):
    """Results of a text encoder for prompts: hidden states [B, L, d] and, with a projection, pooled text [B, p]."""

    hidden: Tensor
    pooled: Tensor | None


class Layer(NamedTuple):
    """The choice of the hidden states of a text encoder that condition the denoiser.

    Attributes:
        skipped: number of last layers that are skipped.
        normed: True if the final norm follows, as after the last layer.
    """

    skipped: int
    normed: bool


@contextmanager
def soft_prompt(text_encoder: nn.Module, soft: Tensor, start: int) -> Iterator[None]:
    """Replace the token embeddings [start, start + n) by ``soft`` while the context is open.

    Args:
        text_encoder: transformers model with ``get_input_embeddings``.
        soft: token embeddings [n, d] or [B, n, d].
        start: position of the first soft token; the begin token has position 0.
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
def _entering(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """Collect the input of a layer; ``output_hidden_states`` would leave transformers' hooks in the module."""
    inputs: list[Tensor] = []
    if layer is None:
        yield inputs
        return

    def collect(module: nn.Module, args: tuple, kwargs: dict) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])

    handle = layer.register_forward_pre_hook(collect, with_kwargs=True)
    try:
        yield inputs
    finally:
        handle.remove()


class ClipText:
    """A CLIP text encoder with its tokenizer; both are never changed.

    Args:
        tokenizer: transformers CLIPTokenizer.
        encoder: CLIPTextModel or CLIPTextModelWithProjection.
        argument: name of the encoder in messages.
        convert: function of the pipeline from prompt and tokenizer to the prompt with a token for each vector of a
            textual inversion; None for a pipeline without it.
        masks: True if the pipeline passes the attention mask to an encoder whose configuration asks for it.

    Raises:
        ValueError: the encoder is not a CLIP text encoder.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: "CLIPTextModel | CLIPTextModelWithProjection",
        argument: str = "text_encoder",
        convert: Callable[[str, Tokenizer], str] | None = None,
        masks: bool = False,
    ) -> None:
        kind = getattr(getattr(encoder, "config", None), "model_type", None)
        if kind != _CONFIG:
            raise wrong_value(argument, "a CLIP text encoder (CLIPTextModel, CLIPTextModelWithProjection)", kind)
        for needed in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(tokenizer, needed, None) is None:
                wanted = "a tokenizer with tokens for begin, end and padding of a prompt"
                raise wrong_value(argument, wanted, f"{needed} None")
        self.tokenizer, self.encoder, self._argument = tokenizer, encoder, argument
        self._convert, self._masks = convert, masks
        self.context = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        self.width: int = encoder.get_input_embeddings().weight.shape[1]
        self.special = {tokenizer.bos_token_id, tokenizer.eos_token_id, *tokenizer.all_special_ids}

    @property
    def max_tokens(self) -> int:
        """Number of tokens that fit between begin and end."""
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
                # Beyond ASCII, the vocabulary spells bytes; bytes that are not a whole character keep that spelling.
                text = plain if plain.isascii() else self.tokenizer.decode([i])
                spelt[i] = plain if not text or "\N{REPLACEMENT CHARACTER}" in text else text
        return spelt

    @cached_property
    def words(self) -> dict[int, str]:
        """Id and spelling of whole words with a trained embedding, added ones too; the only single letter is "a".

        If hardly any token is a word, for example in a tokenizer of letters, it returns all trained tokens.
        """
        norms = self.table.norm(dim=-1).tolist()
        trained = {i: word for i, word in self.vocabulary.items() if norms[i] > 0}
        tokens = self.tokenizer.convert_ids_to_tokens(list(trained))
        pairs = zip(tokens, trained.items(), strict=True)
        words = {i: word for token, (i, word) in pairs if token.endswith(_WORD_END) and word.isalpha()}
        whole = {i: word for i, word in words.items() if len(word) > 1 or word == "a"}
        whole = whole if len(whole) >= _FEWEST_WORDS else trained
        return whole | {i: trained[i] for i in added_words(self.tokenizer, whole.values()) if i in trained}

    @property
    def placeholder(self) -> int:
        """An ordinary token whose embedding soft tokens replace, so that a prompt has only one end token.

        Raises:
            ValueError: all tokens of the tokenizer are special.
        """
        first = next(iter(self.vocabulary), None)
        if first is None:
            raise wrong_value(self._argument, "a tokenizer with tokens that are not special", "none")
        return first

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text without begin and end; a textual inversion has one id for each vector.

        Raises:
            TypeError: no text.
            ValueError: a text that UTF-8 cannot encode, which tokenizers cannot read.
        """
        if not isinstance(text, str):
            raise wrong_type("prompt", "text", text)
        check_text("prompt", [text])
        if not text:
            return []
        text = text if self._convert is None else self._convert(text, self.tokenizer)
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def cut(self, ids: list[int], room: int) -> list[int]:
        """Return the ids that the tokenizer keeps of a longer text: its beginning, or its end if configured so."""
        left = getattr(self.tokenizer, "truncation_side", "right") == "left"
        return ids[max(0, len(ids) - room) :] if left else ids[:room]

    def known_ids(self, argument: str, text: str) -> list[int]:
        """Return ``ids``, or raise ValueError if the tokenizer cannot spell the text."""
        ids = self.ids(text)
        if self._has_end(ids):
            raise wrong_value(argument, "text whose every character the tokenizer knows", repr(text))
        return ids

    def knows(self, text: str) -> bool:
        """Return whether the tokenizer knows every character of a text; what it does not know is an end of a prompt."""
        return not self._has_end(self.ids(text))

    def _has_end(self, ids: list[int]) -> bool:
        return not {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}.isdisjoint(ids)

    def spells(self, word: str) -> bool:
        """Return whether a word reaches the encoder as a word: trained tokens, none special, not single letters."""
        ids = self.ids(word)
        trained = all(i not in self.special and i < len(self.table) and self.table[i].any() for i in ids)
        return bool(ids) and trained and (len(ids) == 1 or len(ids) <= len(word) // _FEWEST_LETTERS)

    def check_layer(self, layer: Layer) -> None:
        """Refuse to skip more layers than the encoder has.

        Raises:
            ValueError: too many layers to skip; the message names the encoder.
        """
        depth = self.encoder.config.num_hidden_layers
        if layer.skipped > depth:
            wanted = f"at most the {depth} layers of {self._argument}, of which the pipeline leaves out"
            raise wrong_value("clip_skip", wanted, f"{layer.skipped} in all")

    def encode(
        self, bodies: Sequence[Sequence[int]], length: int, layer: Layer, soft: Tensor | None = None, place: int = 0
    ) -> TextStates:
        """Encode begin, body, end and padding, which is on the side where the tokenizer pads.

        Args:
            bodies: token ids of B prompts; with soft tokens, all prompts have the same number of ids.
            length: number of tokens of a whole row.
            layer: choice of the hidden states to return.
            soft: soft tokens [n, d] or [B, n, d] that replace real ones; the result is differentiable in them.
            place: position of the first soft token in the body.
        """
        left = getattr(self.tokenizer, "padding_side", "right") == "left"
        begin, end, pad = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        rows, masks = [], []
        for body in bodies:
            row, padding = (begin, *body, end), (pad,) * (length - len(body) - _SPECIAL_SHARE)
            rows.append((*padding, *row) if left else (*row, *padding))
            seen, unseen = (1,) * len(row), (0,) * len(padding)
            masks.append((*unseen, *seen) if left else (*seen, *unseen))
        device, options = self.table.device, {}
        if self._masks and getattr(self.encoder.config, "use_attention_mask", False):
            options["attention_mask"] = constant(tuple(masks), torch.long, device)
        start = 1 + place + (length - len(bodies[0]) - _SPECIAL_SHARE if left else 0)
        with ExitStack() as stack:
            stack.enter_context(frozen(self.encoder))
            if layer.skipped or soft is not None:
                stack.enter_context(uncompiled())  # code that was compiled without these hooks would not run them
            entered = stack.enter_context(_entering(self._layer(layer)))
            if soft is not None:
                stack.enter_context(soft_prompt(self.encoder, soft, start))
            out = self.encoder(constant(tuple(rows), torch.long, device), **options)
            hidden = entered[0] if entered else out.last_hidden_state
            if entered and layer.normed:
                hidden = getattr(self.encoder, "text_model", self.encoder).final_layer_norm(hidden)
        return TextStates(hidden, getattr(out, "text_embeds", None))

    def _layer(self, layer: Layer) -> nn.Module | None:
        """Return the first layer that is skipped, or None if no layer is skipped."""
        if not layer.skipped:
            return None
        depth = self.encoder.config.num_hidden_layers
        layers = next(m for m in self.encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
        return layers[-layer.skipped]
