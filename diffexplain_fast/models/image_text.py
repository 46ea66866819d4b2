"""A vision-language model of transformers on this machine: pictures and a question go in, its answer comes back."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch
from PIL import Image
from torch import Tensor, nn

from diffexplain_fast.endpoints import CAPTION, check_question, pictures_of
from diffexplain_fast.errors import describe, first_line, wrong_type, wrong_value
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.quiet import without_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_TOKENS = 1024
_CONFIG = "config.json"


class _Answers(Protocol):
    @property
    def is_encoder_decoder(self) -> bool: ...


class _Generates(Protocol):
    """What transformers' models have by a mixin that their type does not say."""

    config: _Answers

    def generate(self, **given: object) -> Tensor: ...


class ImageTextToText:
    """A model that answers a question about pictures in words, such as LLaVA, SmolVLM or Qwen-VL.

    Nothing leaves this machine. For ``Taxonomy.propose``, and for captions of pictures.

    Args:
        model: of transformers' image-text-to-text models; it is not changed.
        processor: the model's own; its chat template is used where it has one.
        tokens: that an answer has at most, at least 1.

    Raises:
        TypeError: a model that cannot generate, or a processor that is no function.
        ValueError: fewer than one token.
    """

    def __init__(self, model: "PreTrainedModel", processor: "ProcessorMixin", tokens: int = _TOKENS) -> None:
        if not isinstance(model, nn.Module) or not callable(getattr(model, "generate", None)):
            raise wrong_type("model", "a model of transformers that generates text", model)
        if not callable(processor):
            raise wrong_type("processor", "the processor of the model, which takes pictures and text", processor)
        if isinstance(tokens, bool) or not isinstance(tokens, int):
            raise wrong_type("tokens", "a whole number", tokens)
        if tokens < 1:
            raise wrong_value("tokens", "at least 1", tokens)
        self._model, self._processor, self._tokens = model, processor, tokens
        generates = cast("_Generates", model)
        self._generate, self._encodes = generates.generate, bool(generates.config.is_encoder_decoder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, tokens: int = _TOKENS) -> "ImageTextToText":
        """Read a model and its processor from a folder, in the dtype in which the model was saved.

        Only safetensors are read, no code of the folder is run, and nothing is downloaded.

        Args:
            folder: as ``save_pretrained`` of transformers writes it.
            tokens: that an answer has at most.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: a folder without such a model or without its processor.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        place = Path(folder)
        if not (place / _CONFIG).is_file():
            raise FileNotFoundError(describe("folder", f"a folder with {_CONFIG}", place))
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            with without_bars(logging):
                processor = AutoProcessor.from_pretrained(place, **safe)
                model = AutoModelForImageTextToText.from_pretrained(place, use_safetensors=True, dtype="auto", **safe)
        except (ValueError, OSError) as error:
            wanted = "an image-text-to-text model of transformers in safetensors, with its processor"
            raise wrong_value("folder", wanted, f"{place}: {first_line(error)}") from error
        return cls(model, processor, tokens)

    @torch.no_grad()
    def __call__(self, images: Sequence[object], question: str) -> str:
        """Return the model's answer to a question about pictures; the same question has the same answer.

        Args:
            images: PIL images, or pixels [3, H, W] in [0, 1] each.
            question: text.

        Raises:
            TypeError: a picture of another kind, or a question that is no text.
            ValueError: pixels out of [0, 1], an empty picture, or pictures and a question that the model does not take,
                such as too many for its context.
        """
        check_question(question)
        pictures = pictures_of(images)
        try:
            given = self._given(pictures, question)
            with frozen(self._model):
                found = self._generate(**given, max_new_tokens=self._tokens, do_sample=False)
        except (ValueError, IndexError, RuntimeError) as error:
            got = f"{len(pictures)} pictures, at which {type(self._model).__name__} says: {error}"
            raise wrong_value("images", "pictures and a question that the model takes", got) from error
        before = 0 if self._encodes else given["input_ids"].shape[1]
        return str(self._processor.batch_decode(found[:, before:], skip_special_tokens=True)[0]).strip()

    def captions(self, images: Sequence[object], question: str = CAPTION) -> list[str]:
        """Return a caption of each picture, in one line; for ``Explainer.candidates``.

        Args:
            images: PIL images, or pixels [3, H, W] in [0, 1] each.
            question: what is asked about each picture.

        Raises:
            TypeError: a picture of another kind, or a question that is no text; before anything is asked.
            ValueError: pixels out of [0, 1], an empty picture, or one that the model does not take.
        """
        return [" ".join(self([picture], question).split()) for picture in pictures_of(images)]

    def _given(self, pictures: Sequence[Image.Image], question: str) -> dict[str, Tensor]:
        """Return what the model generates from; its inputs of numbers with a point have the dtype of the model."""
        processor = self._processor
        if getattr(processor, "chat_template", None):
            content = [{"type": "image", "image": picture} for picture in pictures]
            said = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
            options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            given = processor.apply_chat_template(said, **options)
        else:
            given = processor(images=list(pictures), text=question, return_tensors="pt")
        weight = next(self._model.parameters())
        return {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in given.items()
        }
