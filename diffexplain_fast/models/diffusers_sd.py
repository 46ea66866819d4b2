"""Stable Diffusion 1.x and 2.x: one text encoder, whose last hidden state conditions the denoiser."""

from diffexplain_fast.models.pipeline import Conditioning, Pipeline
from diffexplain_fast.models.transformers_clip import TextStates


class StableDiffusion(Pipeline):
    """Adapter of ``StableDiffusionPipeline``; 2.x differs in weights and prediction type alone."""

    encoders = (("tokenizer", "text_encoder"),)

    def _conditioning(self, states: list[TextStates]) -> Conditioning:
        return Conditioning(states[0].last, None)
