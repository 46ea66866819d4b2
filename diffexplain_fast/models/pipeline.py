"""Text-to-image pipelines behind one interface: from text and soft tokens to the conditioning of the sampler."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.lazy import lazily
from diffexplain_fast.models.call_options import check_call_options, check_clip_skip, check_room
from diffexplain_fast.models.conditioning import OF_PIPELINE, OF_SCHEDULER, Conditioning, Sampling, Sizes
from diffexplain_fast.models.fingerprint import KeptHash
from diffexplain_fast.models.together import checked_together
from diffexplain_fast.models.transformers_clip import ClipText, Layer, TextStates, Tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection


class Pipeline(ABC):
    """A pipeline's modules behind the functions that the methods need; the modules are never changed.

    Args:
        parts: diffusers pipeline object; subclasses read its components.
        name: name of the pipeline in results.
        call_options: options of the pipeline's call, by name, that change the inputs of the denoiser: ``clip_skip``
            and, for Stable Diffusion XL, its six sizes; or None.

    Attributes:
        call_options: the options that are not None.
        convert: function from prompt and tokenizer to the prompt that is drawn; None for none.

    Raises:
        TypeError: an option of another kind.
        ValueError: a component is missing, on another device, of a kind that is not supported, or a text encoder in
            another dtype than the denoiser; an option that the pipeline does not have, or out of range.
    """

    encoders: ClassVar[tuple[tuple[str, str], ...]]
    """Attribute names of each tokenizer and its text encoder."""
    known_options: ClassVar[tuple[str, ...]] = ("clip_skip",)
    """Names of the options of the pipeline's call that change the inputs of the denoiser."""
    masks: ClassVar[bool] = False
    """True if the pipeline passes the attention mask to an encoder whose configuration asks for it."""
    zeros: bool = False
    """True if the unconditional rows are zeros for a call without a negative prompt."""

    def __init__(self, parts: object, name: str, call_options: Mapping[str, object] | None = None) -> None:
        needed = self.components()
        missing = [attribute for attribute in needed if getattr(parts, attribute, None) is None]
        if missing:
            raise wrong_value("pipeline", f"the components {', '.join(needed)}", f"none for {', '.join(missing)}")
        components = {attribute: getattr(parts, attribute) for attribute in needed}
        self.name = name
        self.unet: UNet2DConditionModel = components["unet"]
        self.vae: AutoencoderKL = components["vae"]
        self.scheduler: SchedulerMixin = components["scheduler"]
        self.call_options = check_call_options(call_options, self.known_options)
        self.convert = getattr(parts, "maybe_convert_prompt", None)
        self._texts = [ClipText(components[t], components[e], e, self.convert, self.masks) for t, e in self.encoders]
        for text in self._texts:
            text.check_layer(self._layer(check_clip_skip(self.call_options.get("clip_skip", 0))))
        self._hash = KeptHash()
        checked_together(self.modules)
        channels, config = self.vae.config.latent_channels, self.unet.config
        if config.in_channels != channels:
            wanted = f"{channels} input channels, as many as the vae's latents have"
            raise wrong_value("unet", wanted, config.in_channels)
        if config.time_cond_proj_dim is not None:
            raise wrong_value("unet", "no guidance embedding (time_cond_proj_dim None)", config.time_cond_proj_dim)

    @classmethod
    def components(cls) -> tuple[str, ...]:
        """Names of the components that such a pipeline must have."""
        return ("unet", "vae", "scheduler", *(attribute for pair in cls.encoders for attribute in pair))

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The denoiser, the autoencoder and the text encoders, by the names that diffusers gives them."""
        texts = {name: text.encoder for (_, name), text in zip(self.encoders, self._texts, strict=True)}
        return {"unet": self.unet, "vae": self.vae, **texts}

    @property
    def text_encoders(self) -> "tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]":
        """The text encoders, one or two."""
        return tuple(text.encoder for text in self._texts)

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The tokenizer of each text encoder."""
        return tuple(text.tokenizer for text in self._texts)

    @property
    def device(self) -> torch.device:
        """Device of the components."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the denoiser's weights."""
        return next(self.unet.parameters()).dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents that the denoiser was trained on.

        Raises:
            ValueError: the denoiser's configuration does not say it.
        """
        size = self.unet.config.sample_size
        if size is None:
            raise wrong_value("unet.config.sample_size", "the size of the latents", None)
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor

    @property
    def usual_sampling(self) -> Sampling:
        """Steps and guidance scale that suit the pipeline: its scheduler decides, because LCM needs few steps."""
        return OF_SCHEDULER.get(type(self.scheduler).__name__) or OF_PIPELINE.get(self.name) or Sampling()

    @property
    def embedding_dim(self) -> int:
        """Width of a soft token: the sum of the widths of the token embeddings of all encoders."""
        return sum(text.width for text in self._texts)

    @property
    def max_tokens(self) -> int:
        """Number of tokens that fit between begin and end of a prompt."""
        return min(text.max_tokens for text in self._texts)

    @cached_property
    def _vocabulary(self) -> dict[int, str]:
        """Tokens that every tokenizer spells as the same word."""
        first, *others = (text.words for text in self._texts)
        shared = {i: word for i, word in first.items() if all(other.get(i) == word for other in others)}
        if not shared:
            wanted = "a token that is not special, has a trained embedding, and is the same for every text encoder"
            raise wrong_value("tokenizer", wanted, "none")
        return shared

    def words(self) -> list[str]:
        """Return the spelling of each row of ``word_table``: whole words, without special tokens and parts of words.

        A tokenizer with hardly any whole words gives its parts of words.

        Raises:
            ValueError: no token is the same for every text encoder.
        """
        return list(self._vocabulary.values())

    def word_table(self) -> Tensor:
        """Return the token embeddings [V, embedding_dim] of the words."""
        ids = torch.tensor(list(self._vocabulary), device=self.device)
        return torch.cat([text.table[ids] for text in self._texts], dim=-1)

    def token_embeddings(self, text: str) -> Tensor:
        """Return the token embeddings [n, embedding_dim] of a text, without begin and end."""
        ids = [torch.tensor(part.ids(text), dtype=torch.long, device=self.device) for part in self._texts]
        return torch.cat([part.table[rows] for part, rows in zip(self._texts, ids, strict=True)], dim=-1)

    def token_ids(self, text: str) -> list[int]:
        """Return the first tokenizer's ids of a text, without begin and end."""
        return self._texts[0].ids(text)

    def nearest_words(self, soft: Tensor, k: int = 5) -> list[list[tuple[str, float]]]:
        """Return, for each soft token [n, d], up to ``k`` different words with their cosine similarity, best first."""
        self._check_soft(soft, ranks=(2,))
        words, table = self.words(), torch.nn.functional.normalize(self.word_table().float(), dim=-1)
        similarity = torch.nn.functional.normalize(soft.detach().float(), dim=-1) @ table.T  # [n, V]
        order = similarity.argsort(dim=1, descending=True, stable=True)[:, :k].tolist()
        return [[(words[i], float(row[i])) for i in best] for row, best in zip(similarity.cpu(), order, strict=True)]

    def fits(self, text: str) -> bool:
        """Return whether a prompt fits into the context of every text encoder."""
        return all(len(text_encoder.ids(text)) <= self.max_tokens for text_encoder in self._texts)

    def spells(self, text: str) -> bool:
        """Return whether every word of a text reaches every text encoder as a word, not cut into letters."""
        return bool(text.split()) and all(part.spells(word) for part in self._texts for word in text.split())

    def knows(self, text: str) -> bool:
        """Return whether every tokenizer knows every character of a text."""
        return all(part.knows(text) for part in self._texts)

    def encode_text(self, texts: Sequence[str], cut: bool = False, clip_skip: int | None = None) -> Conditioning:
        """Encode B prompts; equal to the diffusers pipeline's ``encode_prompt``.

        Args:
            texts: the prompts.
            cut: True to cut off tokens beyond the context, as diffusers does, instead of raising.
            clip_skip: number of last layers of the text encoders to skip; if None, the pipeline's ``call_options``
                decide.

        Raises:
            TypeError: ``texts`` is one string.
            ValueError: there is no prompt, or a prompt is longer than the context and ``cut`` is False.
        """
        if isinstance(texts, str):
            raise wrong_type("texts", "a sequence of prompts", texts)
        if not texts:
            raise wrong_value("texts", "at least one prompt", "none")
        states, layer = [], self._checked_layer(clip_skip)
        for text_encoder in self._texts:
            bodies = [text_encoder.ids(text) for text in texts]
            if cut:
                bodies = [text_encoder.cut(body, self.max_tokens) for body in bodies]
            for text, body in zip(texts, bodies, strict=True):
                check_room(f"prompt {text!r}", len(body), self.max_tokens)
            states.append(text_encoder.encode(bodies, self.max_tokens + 2, layer))
        return self._conditioning(states)

    def unconditional(self) -> Conditioning:
        """Encode the text from which diffusers' pipeline guides away without a negative prompt, for one prompt.

        It is the empty text without ``clip_skip``, or zeros if the pipeline's configuration says so.
        """
        empty = self.encode_text([""], clip_skip=0)
        if not self.zeros:
            return empty
        pooled = None if empty.pooled is None else torch.zeros_like(empty.pooled)
        return Conditioning(torch.zeros_like(empty.prompt_embeds), pooled)

    def encode_soft(
        self, soft: Tensor, prefix: str = "", suffix: str = "", clip_skip: int | None = None
    ) -> Conditioning:
        """Encode begin, prefix, soft tokens, suffix, end; soft tokens equal to real ones give the conditioning of the
        text.

        Args:
            soft: token embeddings [n, embedding_dim] for one prompt or [B, n, embedding_dim]; floating point.
            prefix: words before the soft tokens.
            suffix: words after the soft tokens.
            clip_skip: as in ``encode_text``.

        Returns:
            Conditioning of 1 or B prompts, differentiable only in ``soft``.

        Raises:
            TypeError: ``soft`` is not a tensor.
            ValueError: wrong shape, dtype or device, a word that the tokenizer cannot spell, or too many tokens.
        """
        self._check_soft(soft, ranks=(2, 3))
        states, n, layer = [], soft.shape[-2], self._checked_layer(clip_skip)
        slices = soft.split([text_encoder.width for text_encoder in self._texts], dim=-1)
        for text_encoder, columns in zip(self._texts, slices, strict=True):
            before, after = text_encoder.known_ids("prefix", prefix), text_encoder.known_ids("suffix", suffix)
            check_room("prefix, soft tokens and suffix", len(before) + n + len(after), self.max_tokens)
            bodies = [[*before, *[text_encoder.placeholder] * n, *after]] * (len(soft) if soft.ndim == 3 else 1)
            states.append(text_encoder.encode(bodies, self.max_tokens + 2, layer, columns, len(before)))
        return self._conditioning(states)

    def _checked_layer(self, clip_skip: int | None) -> Layer:
        if clip_skip is None:
            return self._layer(check_clip_skip(self.call_options.get("clip_skip", 0)))
        layer = self._layer(check_clip_skip(clip_skip))
        for text in self._texts:
            text.check_layer(layer)
        return layer

    @abstractmethod
    def _layer(self, clip_skip: int) -> Layer:
        """Return which hidden states condition the denoiser if so many layers are skipped."""

    def _check_soft(self, soft: Tensor, ranks: tuple[int, ...]) -> None:
        if not isinstance(soft, Tensor):
            raise wrong_type("soft", "a tensor of token embeddings", soft)
        if soft.ndim not in ranks or soft.shape[-1] != self.embedding_dim or soft.numel() == 0:
            wanted = " or ".join({2: "[n, {}]", 3: "[B, n, {}]"}[rank].format(self.embedding_dim) for rank in ranks)
            raise wrong_value("soft", f"shape {wanted} with n >= 1", list(soft.shape))
        if not soft.is_floating_point():
            raise wrong_value("soft", "a floating point dtype", soft.dtype)
        if soft.device != self.device:
            raise wrong_value("soft", f"device {self.device}", soft.device)

    @abstractmethod
    def _conditioning(self, states: list[TextStates]) -> Conditioning:
        """Join the states of the text encoders."""

    def extras(self, conditioning: Conditioning, batch: int) -> Sizes:
        """Return further inputs of the sampler for ``batch`` images; Stable Diffusion 1.x and 2.x have none."""
        return {}

    def fingerprint(self) -> str:
        """Return the sha256 over the weights of all components; only an edit makes it be computed again."""
        return self._hash.of(**self.modules)


# Where ``load_pipeline`` was before; the adapters import this file.
__getattr__ = lazily(__name__, {"load_pipeline": "models.loading"})
