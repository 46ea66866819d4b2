"""Search the start noise of one picture for a reward, a classifier's probability, as ReNO does.

Source: ReNO (arXiv 2406.04312). Only the start noise is learned; prompt and models stay as they are.
Run: ``python examples/reno_noise.py``; 12 steps take less than a minute on two cores.
"""

import math

import torch

import diffexplain_fast as dx

PROMPT, LABEL = "a picture", "fish"


def search_noise(steps: int = 12, sampling_steps: int = 4, rate: float = 60.0, keep_norm: float = 1e-3) -> list[float]:
    """Return the log probability of ``LABEL`` in one picture of ``PROMPT`` before each step of the search."""
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    pipe = dx.load_pipeline("tinyworld")
    sampler = dx.accelerate(pipe, num_inference_steps=sampling_steps, guidance_scale=1.0)
    prompt = pipe.encode_text([PROMPT]).prompt_embeds.detach()
    noise = torch.randn(1, *pipe.latent_shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.SGD([noise], lr=rate, momentum=0.9, nesterov=True)
    rewards = []
    for step in range(steps):
        image = sampler(prompt, latents=noise).clamp(0, 1)
        reward = classifier(image).log_softmax(-1)[0, classifier.label_index(LABEL)]
        # Noise of another length than that of normal noise is no start that the sampler was trained for.
        too_long = (noise.norm() - math.sqrt(noise.numel())).square()
        optimizer.zero_grad()
        (keep_norm * too_long - reward).backward()
        torch.nn.utils.clip_grad_norm_([noise], 0.1)
        optimizer.step()
        rewards.append(reward.item())
        print(f"step {step}: log probability of {LABEL!r} {rewards[-1]:.3f}")
    return rewards


if __name__ == "__main__":
    search_noise()
