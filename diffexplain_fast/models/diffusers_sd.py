"""Stable Diffusion 1.x and 2.x: one text encoder, whose last hidden state conditions the denoiser."""

from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.transformers_clip import Layer, TextStates


class StableDiffusion(Pipeline):
    """Adapter of ``StableDiffusionPipeline``; 2.x differs only in weights and prediction type."""

    encoders = (("tokenizer", "text_encoder"),)
    masks = True

    def _layer(self, clip_skip: int) -> Layer:
        return Layer(clip_skip, normed=True)

    def _conditioning(self, states: list[TextStates]) -> Conditioning:
        return Conditioning(states[0].hidden, None)
