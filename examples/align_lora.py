"""Train a LoRA of a diffusion model for a reward, a classifier's probability, as DRaFT does.

Source: DRaFT (arXiv 2309.17400). The gradient goes through the whole sampler. Needs ``pip install peft``.
Run: ``python examples/align_lora.py``; 12 steps take about a minute on two cores.
"""

import torch
from peft import LoraConfig

import diffexplain_fast as dx

PROMPT, LABEL = "a photo of a tree", "tree"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def align(
    steps: int = 12,
    batch: int = 2,
    rank: int = 4,
    sampling_steps: int = 4,
    rate: float = 1e-2,
    gradient: str = "full",
) -> list[float]:
    """Return the mean probability of ``LABEL`` in pictures of ``PROMPT`` before each step of the optimizer.

    ``gradient="last:1"`` is DRaFT-1.
    """
    torch.manual_seed(0)
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    pipe = dx.load_pipeline("tinyworld")
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION))
    weights = [weight for weight in pipe.unet.parameters() if weight.requires_grad]
    sampler = dx.accelerate(pipe, num_inference_steps=sampling_steps, guidance_scale=3.0, gradient=gradient)
    with torch.no_grad():
        prompt = pipe.encode_text([PROMPT]).prompt_embeds.expand(batch, -1, -1)
        negative = pipe.unconditional().prompt_embeds
    optimizer = torch.optim.AdamW(weights, lr=rate)
    noise = torch.randn(batch, *pipe.latent_shape)
    rewards = []
    for step in range(steps):
        images = sampler(prompt, negative, latents=noise).clamp(0, 1)
        reward = classifier(images).softmax(-1)[:, classifier.label_index(LABEL)].mean()
        optimizer.zero_grad()
        (-reward.log()).backward()
        optimizer.step()
        rewards.append(reward.item())
        print(f"step {step}: probability of {LABEL!r} {rewards[-1]:.3f}")
    return rewards


if __name__ == "__main__":
    align()
