"""Components that do not fit together are refused when a pipeline is read, and when an explainer is asked."""

from collections.abc import Callable

import pytest
import torch
from diffusers import DiffusionPipeline

from diffexplain_fast.models.loading import load_pipeline
from tests.explaining import QUICK, quick_explainer
from tests.tiny import tiny_sd, tiny_sdxl


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (tiny_sd, "unet"),
        (tiny_sd, "text_encoder"),
        (tiny_sdxl, "unet"),
        (tiny_sdxl, "text_encoder"),
        (tiny_sdxl, "text_encoder_2"),
    ],
)
def test_a_denoiser_and_text_encoders_in_several_dtypes_are_refused_by_their_names(
    make: Callable[[], DiffusionPipeline], part: str
) -> None:
    message = (
        r"pipeline: wanted the unet and every text encoder in one dtype, got \{'unet': torch.float.*'text_encoder'"
    )
    cast = make()
    getattr(cast, part).half()
    with pytest.raises(ValueError, match=message):
        load_pipeline(cast)
    later = make()
    with quick_explainer(pipe=later) as explainer:
        getattr(later, part).half()  # after the pipeline was read
        with pytest.raises(ValueError, match=message):
            explainer.explain("boat", **QUICK)


def test_an_autoencoder_in_another_dtype_is_taken() -> None:
    pipe = tiny_sd()
    pipe.vae.half()
    assert load_pipeline(pipe).encode_text(["boat"]).prompt_embeds.dtype == torch.float32
