"""The engine's denoiser, one call at a time, beside diffusers' module: ``python -m benchmarks.editing.single_calls``.

Eight rows of the tiny world on one thread, forward and with the gradient to the text, as edits and the description of
pictures call them. Both are run by turns, and judged by the median of the ratios of neighbours. Writes
results/single-calls.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from diffexplain_fast.editing.likelihood import denoising_error
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parent.parent / "results" / "single-calls.json"
ROWS = 8


def measured(turns: int) -> dict[str, dict[str, float]]:
    """Return for each kind of call milliseconds a row of both, and the median and quartiles of diffusers' over ours."""
    pipeline = load_pipeline("tinyworld")
    ours, own = (SingleCalls.of(pipeline.unet, pipeline.vae, backend) for backend in ("fast", "reference"))
    noise = torch.randn(2, ROWS, *pipeline.latent_shape, generator=torch.Generator().manual_seed(0))
    times, text = torch.linspace(999, 1, ROWS), pipeline.encode_text(["a red boat on sea"] * ROWS)
    embeds = text.prompt_embeds.detach()

    def forward(calls: SingleCalls) -> None:
        with torch.no_grad():
            calls.denoise(noise[0], times, embeds)

    def gradient(calls: SingleCalls) -> None:
        leaf = embeds.clone().requires_grad_()
        levels = times / 1000
        error = denoising_error(pipeline, noise[0], levels, noise[1], Conditioning(leaf, None), calls)
        torch.autograd.grad(error.mean(), leaf)

    return {run.__name__: _compared(run, ours, own, turns) for run in (forward, gradient)}


def _compared(run: Callable[[SingleCalls], None], ours: SingleCalls, own: SingleCalls, turns: int) -> dict[str, float]:
    both = [(_seconds(run, ours), _seconds(run, own)) for _ in range(turns + 1)][1:]
    low, middle, high = statistics.quantiles([theirs / mine for mine, theirs in both], n=4)
    mine, theirs = (1e3 * statistics.median(pair[i] for pair in both) / ROWS for i in (0, 1))
    figures = {"ours ms a row": mine, "diffusers ms a row": theirs, "ratio": middle, "quartiles": (low, high)}
    return {name: _rounded(value) for name, value in figures.items()}


def _seconds(run: Callable[[SingleCalls], None], calls: SingleCalls) -> float:
    began = time.process_time()
    run(calls)
    return time.process_time() - began


def _rounded(value: float | tuple[float, ...]) -> float | list[float]:
    return [round(one, 2) for one in value] if isinstance(value, tuple) else round(value, 2)


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.editing.single_calls", description=__doc__)
    parser.add_argument("--turns", type=int, default=40, help="pairs of calls")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(given.turns)
    write_json_atomic(given.out, {"rows": ROWS, **found, "device": device_record(), "versions": versions()})
    print(found)


if __name__ == "__main__":
    main()
