"""What a call of a sampler would take, without running it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.engine.backend import Backend
from diffexplain_fast.engine.courses import Courses
from diffexplain_fast.engine.inputs import SIZES, Unseeded, read_inputs
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.spacing import Spacing

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


class Planned:
    """A sampler that says which plan a call would have."""

    guidance_scale: float
    _backend: Backend
    _courses: Courses
    _spacing: Spacing
    _modules: "tuple[UNet2DConditionModel, AutoencoderKL]"

    def _follow(self) -> None:
        """Take over what was replaced in the pipeline."""
        raise NotImplementedError

    def plan_for(
        self,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        *,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        negative_time_ids: Tensor | None = None,
        num_inference_steps: int | None = None,
    ) -> Plan | None:
        """Return the storage plan of a call whose gradient reaches the prompt embeddings, without running the call.

        ``plan`` stays that of the last call.

        Args:
            prompt_embeds: [B, L, d]; this and the other arguments are those of a call.
            negative_prompt_embeds: [1 or B, L, d].
            latents: [B, c, h, w], only whose size counts; None for the size that the UNet's configuration says.
            pooled_prompt_embeds: [B, p], Stable Diffusion XL only.
            negative_pooled_prompt_embeds: [1 or B, p], XL only.
            time_ids: [1 or B, 6], XL only.
            negative_time_ids: [1 or B, 6], XL only.
            num_inference_steps: steps of the call; None for the sampler's number.

        Returns:
            The plan under the limit that ``memory`` gives now; None for the reference, which plans nothing.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: nothing fits into ``memory``, and the message says how many bytes are needed at least; an
                argument of the wrong shape, dtype or device, or one that is needed and missing.
        """
        self._follow()
        schedule, mode = self._courses.of(self._spacing.changed(num_inference_steps, None, None))
        pooled = (pooled_prompt_embeds, negative_pooled_prompt_embeds)
        more = dict(zip(SIZES, (*pooled, time_ids, negative_time_ids), strict=True))
        prompts, generator = (prompt_embeds, negative_prompt_embeds), torch.Generator("cpu").manual_seed(0)
        inputs = read_inputs(
            self._modules, schedule, self.guidance_scale, prompts, latents, generator, more, Unseeded()
        )
        engine, scale = self._backend.running(), self.guidance_scale
        if engine is None:
            return None
        return engine.plan_for(schedule, inputs.conditions, scale, inputs.constant_negative, inputs.start, mode)
