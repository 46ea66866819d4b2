"""Train a LoRA for a reward through a random number of last steps, as AlignProp does.

Source: AlignProp (arXiv 2310.03739), randomised truncated backpropagation. Needs ``pip install peft``.
Run: ``python examples/alignprop_lora.py``; 12 steps take about a minute on two cores.
"""

import random

import torch
from peft import LoraConfig

import diffexplain_fast as dx

PROMPT, LABEL = "a photo of a tree", "tree"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def align(steps: int = 12, batch: int = 2, rank: int = 4, sampling_steps: int = 4, rate: float = 1e-2) -> list[float]:
    """Return the mean probability of ``LABEL`` in pictures of ``PROMPT`` before each step of the optimizer."""
    torch.manual_seed(0)
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    pipe = dx.load_pipeline("tinyworld")
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION))
    weights = [weight for weight in pipe.unet.parameters() if weight.requires_grad]
    prompt = pipe.encode_text([PROMPT]).prompt_embeds.detach().expand(batch, -1, -1)
    negative = pipe.unconditional().prompt_embeds.detach()
    noise = torch.randn(batch, *pipe.latent_shape)
    optimizer, numbers, rewards = torch.optim.AdamW(weights, lr=rate), random.Random(0), []
    for step in range(steps):
        last = numbers.randint(1, sampling_steps)
        sampler = dx.accelerate(pipe, num_inference_steps=sampling_steps, guidance_scale=3.0, gradient=f"last:{last}")
        images = sampler(prompt, negative, latents=noise).clamp(0, 1)
        reward = classifier(images).softmax(-1)[:, classifier.label_index(LABEL)].mean()
        optimizer.zero_grad()
        (-reward.log()).backward()
        optimizer.step()
        rewards.append(reward.item())
        print(f"step {step}, gradient through {last} steps: probability of {LABEL!r} {rewards[-1]:.3f}")
    return rewards


if __name__ == "__main__":
    align()
