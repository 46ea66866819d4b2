"""Change prompt and start noise together until a neuron responds, as DiG-IN does.

Source: DiG-IN (arXiv 2311.17833), maximisation of a neuron from a given prompt.
Run: ``python examples/digin_neuron.py``; 12 steps take less than a minute on two cores.
"""

import torch

import diffexplain_fast as dx

PROMPT, LAYER = "a photo of a tree", "resnet.encoder.stages.2"


def raise_neuron(unit: int = 0, steps: int = 12, sampling_steps: int = 4, rate: float = 0.03) -> list[float]:
    """Return the activation of a unit of ``LAYER`` in one picture of ``PROMPT`` before each step."""
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    neuron = dx.Neuron(LAYER, unit).bind(classifier)
    pipe = dx.load_pipeline("tinyworld")
    sampler = dx.accelerate(pipe, num_inference_steps=sampling_steps, guidance_scale=1.0)
    prompt = pipe.encode_text([PROMPT]).prompt_embeds.detach().requires_grad_()
    noise = torch.randn(1, *pipe.latent_shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer, activations = torch.optim.Adam([prompt, noise], lr=rate), []
    for step in range(steps):
        image = sampler(prompt, latents=noise).clamp(0, 1)
        activation = neuron(classifier.respond(image, neuron.layers)).mean()
        optimizer.zero_grad()
        (-activation).backward()
        optimizer.step()
        activations.append(activation.item())
        print(f"step {step}: {neuron.describe()} {activations[-1]:.3f}")
    return activations


if __name__ == "__main__":
    raise_neuron()
