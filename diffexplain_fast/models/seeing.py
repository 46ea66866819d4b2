"""Models that look at pictures for a method: a CLIP pair, a captioner and a segmenter, each as one short call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from diffexplain_fast.models.fingerprint import weights_sha256
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.git_captions import greedy_captions

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTokenizer, GitForCausalLM, PreTrainedModel

_BATCH = 64


class _Seeing:
    """A model with its tokenizer, which takes pixels scaled to [-1, 1] in a size of its own.

    It stays on its device, and pictures of any device and precision come to it.
    """

    _model: "PreTrainedModel"

    def __init__(self, tokenizer: "CLIPTokenizer", size: int, length: int) -> None:
        self._tokenizer, self._size, self._length = tokenizer, size, length

    def fingerprint(self) -> str:
        """Return the sha256 over the model's weights."""
        return weights_sha256(model=self._model)

    def _pictures(self, pixels: Tensor) -> Tensor:
        scaled = pixels.to(self._model.device, torch.float32).clamp(0, 1) * 2 - 1
        if scaled.shape[-2:] == (self._size, self._size):
            return scaled
        return interpolate(scaled, (self._size, self._size), mode="bilinear", antialias=True, align_corners=False)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        options = {"padding": "max_length", "max_length": self._length, "truncation": True, "return_tensors": "pt"}
        ids: Tensor = self._tokenizer(list(texts), **options).input_ids
        return ids.to(self._model.device)


class Similarity(_Seeing):
    """How well texts fit pictures, by a CLIP pair.

    Args:
        model: the pair.
        tokenizer: of its texts.
    """

    def __init__(self, model: "CLIPModel", tokenizer: "CLIPTokenizer") -> None:
        super().__init__(
            tokenizer, model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
        )
        self._model = model
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def pictures(self, pixels: Tensor) -> Tensor:
        """Return the embedding [B, d], of length 1, on the model's device, of pictures [B, 3, H, W] in [0, 1]."""
        with frozen(self._model):
            parts = [self._model.get_image_features(pixel_values=part) for part in self._pictures(pixels).split(_BATCH)]
        return normalize(torch.cat([_vector(part) for part in parts]), dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embedding [n, d], of length 1, on the model's device, of texts; each text is embedded once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        with frozen(self._model):
            for start in range(0, len(new), _BATCH):
                part = new[start : start + _BATCH]
                found = _vector(self._model.get_text_features(input_ids=self._ids(part)))
                self._known.update(zip(part, normalize(found, dim=-1), strict=True))
        return torch.stack([self._known[text] for text in texts])


class Captioner(_Seeing):
    """What a picture shows, in a caption.

    Args:
        model: the captioner.
        tokenizer: of its texts.
    """

    def __init__(self, model: "GitForCausalLM", tokenizer: "CLIPTokenizer") -> None:
        super().__init__(tokenizer, model.config.vision_config.image_size, model.config.max_position_embeddings)
        self._model = model

    @torch.no_grad()
    def write(self, pixels: Tensor) -> list[str]:
        """Return the most probable caption, word by word, of pictures [B, 3, H, W] in [0, 1]."""
        found: list[str] = []
        begin, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        with frozen(self._model):
            for part in self._pictures(pixels).split(_BATCH):
                ids = greedy_captions(self._model, part, begin, end, self._length)
                found += [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return found


class Segmenter(_Seeing):
    """Where something is in a picture.

    Args:
        model: the segmenter.
        tokenizer: of its texts.
    """

    def __init__(self, model: "CLIPSegForImageSegmentation", tokenizer: "CLIPTokenizer") -> None:
        text = model.config.text_config
        super().__init__(tokenizer, model.config.vision_config.image_size, text.max_position_embeddings)
        self._model = model

    @torch.no_grad()
    def regions(self, pixels: Tensor, texts: Sequence[str], threshold: float = 0.5) -> Tensor:
        """Return where one text for each picture is, as bool [B, 1, H, W] on the pictures' device.

        Args:
            pixels: [B, 3, H, W] in [0, 1].
            texts: B texts.
            threshold: probability above which a pixel counts.
        """
        ids, found = self._ids(texts), []
        with frozen(self._model):
            for part, some in zip(self._pictures(pixels).split(_BATCH), ids.split(_BATCH), strict=True):
                logits = self._model(pixel_values=part, input_ids=some).logits
                found.append(logits.reshape(len(part), 1, *logits.shape[-2:]))
        share = interpolate(torch.cat(found).sigmoid(), pixels.shape[-2:], mode="bilinear", align_corners=False)
        return (share > threshold).to(pixels.device)


def _vector(features: object) -> Tensor:
    """Return an embedding, which transformers 5 puts into an output of its own."""
    found = getattr(features, "pooler_output", features)
    assert isinstance(found, Tensor)
    return found
