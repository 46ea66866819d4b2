"""Four steps instead of eight: a low-rank addition to the denoiser, distilled as a latent consistency model.

Luo et al. 2023, "LCM-LoRA" (arXiv 2311.05556): what the student predicts at a time is the end of the way that the
frozen denoiser, guided, takes from there. Guidance is distilled at one scale, so that the student needs no negative
prompt. The published loss compares the student with itself one step of the teacher later (arXiv 2310.04378); here the
teacher goes all the way, because a way has at most four steps: a student that was compared with itself came to .82 of
the textures after 1,500 steps, and was .23 off at the last time, where the teacher's own guided answer is .03 off.

In a second part the student answers to what it meets when it draws: its own answer at the time before, with new noise
on it (S. Ross et al. 2011, "A reduction of imitation learning to no-regret online learning"). On scenes it learns to
keep the texture that it sees; its own first answers have none, or another one than was asked for.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffexplain_fast.recipe.clip import tokens
from diffexplain_fast.recipe.data import Scenes
from diffexplain_fast.recipe.training import Batch, Loss, Plan
from diffexplain_fast.recipe.unet import build_scheduler
from diffexplain_fast.storage import save_tensors_atomic
from diffexplain_fast.tinyworld.grammar import varied_caption
from diffexplain_fast.tinyworld.low_rank import FILE

Place = TypeVar("Place", int, torch.Tensor)

PLAN = Plan(steps=2400, batch=24, rate=6e-4, decay=0.0, average=0.99, half=True)
OWN_PLAN = Plan(steps=800, batch=24, rate=4e-4, decay=0.0, average=0.99, half=True)
"""After ``PLAN``, on the student's own answers."""
RANK = 22
_GUIDANCE = 4.0
GRID = 4
"""Times of the student, and steps of the teacher from the noisiest one on: with four, guided, textures are as often
right as with eight."""
_SKIP_SCALE = 10.0
_DATA_SPREAD = 0.5
"""Scale of time and spread of the data in the boundary condition, as ``LCMScheduler`` has them."""
_HUBER = 0.03
"""Mean error of a picture's latents below which it counts by its square: above it every picture counts alike, however
much noise is on it."""


class LowRank(nn.Module):
    """A linear layer or convolution, frozen, plus a trained product of two thin ones.

    Args:
        base: the layer; its weight stays as it is.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.base = base
        if isinstance(base, nn.Linear):
            self.lora_A: nn.Module = nn.Linear(base.in_features, RANK, bias=False)
            self.lora_B: nn.Module = nn.Linear(RANK, base.out_features, bias=False)
        else:
            shape, stride, padding = base.kernel_size, base.stride, base.padding
            self.lora_A = nn.Conv2d(base.in_channels, RANK, shape, stride, padding, bias=False)  # type: ignore[arg-type]
            self.lora_B = nn.Conv2d(RANK, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output with the addition."""
        return self.base(x) + self.lora_B(self.lora_A(x))


def add_low_rank(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Freeze a denoiser and give the layers of its attention and residual blocks low-rank additions, in place."""
    unet.requires_grad_(False)
    for name, layer in list(unet.named_modules()):
        inside = any(part in name for part in ("attentions.", "resnets."))
        if inside and isinstance(layer, nn.Linear | nn.Conv2d):
            owner, _, last = name.rpartition(".")
            setattr(unet.get_submodule(owner), last, LowRank(layer))
    return unet.to(memory_format=torch.channels_last)


def save_low_rank(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the additions in float16 as diffusers' ``load_lora_weights`` reads them; their scale is 1."""
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, LowRank):
            for part in ("lora_A", "lora_B"):
                weight = getattr(layer, part).weight.detach().to(torch.float16)
                tensors[f"unet.{name}.{part}.weight"] = weight.cpu().contiguous()
    save_tensors_atomic(folder / FILE, tensors)


class _Ways:
    """Ways from noisy latents to pictures: the student's in one step, the teacher's in up to four.

    The latents of a batch lie in the order of their times, the noisiest first, every time equally often.
    """

    def __init__(self, student: UNet2DConditionModel, teacher: UNet2DConditionModel, batch: int) -> None:
        self._student, self._teacher, self._batch = student, teacher, batch
        self._alphas = build_scheduler().alphas_cumprod.to(student.device)
        self._spacing = len(self._alphas) // GRID

    @property
    def late(self) -> torch.Tensor:
        """Times of the latents, int64 [batch]."""
        return self._time(torch.arange(self._batch).remainder(GRID).sort(descending=True).values)

    def noised(self, clean: torch.Tensor, late: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return clean latents with noise on them, as there is at their times."""
        signal, spread = _levels(self._alphas, late)
        return (signal * clean + spread * noise).to(memory_format=torch.channels_last)

    def end(self, noisy: torch.Tensor, states: torch.Tensor, nothing: torch.Tensor) -> torch.Tensor:
        """Return where the guided teacher comes to from every noisy latent."""
        ends = noisy
        for time in reversed(range(GRID)):
            count = self._begun(time)
            times = torch.full((count,), self._time(time), device=noisy.device)
            both = torch.cat([states[:count], nothing.expand(count, -1, -1)])
            said = self._teacher(ends[:count].repeat(2, 1, 1, 1), times.repeat(2), both).sample.float()
            told, untold = said.chunk(2)
            velocity = untold + _GUIDANCE * (told - untold)
            signal, spread = _levels(self._alphas, times)
            later, rest = _levels(self._alphas, (times - self._spacing).clamp_min(0))
            denoised, drawn = signal * ends[:count] - spread * velocity, spread * ends[:count] + signal * velocity
            ends = torch.cat([later * denoised + rest * drawn, ends[count:]])
        return ends

    def answer(self, noisy: torch.Tensor, late: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return what the student predicts."""
        signal, spread = _levels(self._alphas, late)
        denoised = signal * noisy - spread * self._student(noisy, late, states).sample.float()
        scaled = (late * _SKIP_SCALE).view(-1, 1, 1, 1).float()
        skip = _DATA_SPREAD**2 / (scaled**2 + _DATA_SPREAD**2)
        return skip * noisy + scaled / (scaled**2 + _DATA_SPREAD**2).sqrt() * denoised

    def own_answers(self, clean: torch.Tensor, noise: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Return what the student has answered when it comes to the time of each latent; the scene at the first time.

        ``noise`` [batch, times, ...] is what each of its answers gets.
        """
        for time in reversed(range(1, GRID)):
            first = self._begun(time)
            late = torch.full((len(clean) - first,), self._time(time), device=clean.device)
            said = self.answer(self.noised(clean[first:], late, noise[first:, time]), late, states[first:])
            clean = torch.cat([clean[:first], said])
        return clean

    def _time(self, place: Place) -> Place:
        return (place + 1) * self._spacing - 1

    def _begun(self, time: int) -> int:
        """Return how many latents have this time or a noisier one."""
        return sum(place % GRID >= time for place in range(self._batch))


def lcm_loss(
    student: UNet2DConditionModel,
    teacher: UNet2DConditionModel,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scenes: Scenes,
    latents: torch.Tensor,
    batch: int,
    own: bool,
) -> Loss:
    """Return how far the student's answer is from the end of the teacher's way from the same noisy latents.

    ``own`` says whether these are the student's own answers with noise on them, or scenes.
    """
    ways = _Ways(student, teacher, batch)

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = rng.integers(len(latents), size=batch)
        texts = [varied_caption(scenes.attributes(row), rng) for row in rows]
        noise = torch.randn((batch, GRID if own else 1, *latents.shape[1:]), generator=generator)
        ids = tokens(tokenizer, [*texts, ""])
        return {"ids": ids, "clean": latents[torch.from_numpy(rows)], "late": ways.late, "noise": noise}

    def loss(batch: Batch) -> torch.Tensor:
        clean, late, noise = batch["clean"], batch["late"], batch["noise"]
        with torch.no_grad():
            states = text(batch["ids"]).last_hidden_state
            clean = ways.own_answers(clean, noise, states[:-1]) if own else clean
            noisy = ways.noised(clean, late, noise[:, 0])
            target = ways.end(noisy, states[:-1], states[-1:])
        error = (ways.answer(noisy, late, states[:-1]) - target).square().flatten(1).mean(1)
        return ((error + _HUBER**2).sqrt() - _HUBER).mean()

    return Loss(draw, loss)


def _levels(alphas: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    level = alphas[times].view(-1, 1, 1, 1)
    return level.sqrt(), (1 - level).sqrt()
