"""``diffexplain-fast explain``: explain one target of any classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from diffexplain_fast.cli import options
from diffexplain_fast.cli.demo import summary
from diffexplain_fast.cli.output import check_folder
from diffexplain_fast.cli.progress import ProgressBars
from diffexplain_fast.methods.diffexplainer.options import Options

_OUT = Path("explanation")


def explain(
    classifier: options.Classifier,
    target: Annotated[str, typer.Argument(help='A class by label, else by number, or a neuron as "layer:unit".')],
    pipeline: options.Pipeline = "tinyworld",
    scheduler: options.Scheduler = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html, the explanation and the checkpoints.")] = _OUT,
    prefix: Annotated[str, typer.Option(help='Words before the searched tokens, such as "a texture of".')] = "",
    n_tokens: Annotated[int, typer.Option(help="How many tokens to search.")] = Options.n_tokens,
    iterations: Annotated[int, typer.Option(help="Optimisation steps of one attempt.")] = Options.iterations,
    lr: Annotated[float, typer.Option(help="Step size.")] = Options.lr,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    backend: Annotated[str, typer.Option(help='"auto", "reference" or "fast".')] = "auto",
    device: options.Device = None,
) -> None:
    """Explain one class or neuron of a classifier.

    Finds a prompt whose pictures make the classifier answer with the class, and writes a report.

    Interrupted, even by a power cut, the same command goes on where it stopped and ends with the same result.
    Example: diffexplain-fast explain tinyworld/background fish --out fish
    """
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.cli.device import chosen_device
    from diffexplain_fast.engine.scheduler_names import load_with_scheduler

    check_folder(out, ["report.html"], ["explanation"])
    check_folder(out / "checkpoint")
    place = str(chosen_device(device))
    models = load_with_scheduler(pipeline, scheduler, device=place)
    with (
        Explainer(models, classifier, backend=backend, seed=seed, device=place) as explainer,
        ProgressBars(target) as bars,
    ):
        explanation = explainer.explain(
            chosen_target(target, explainer.classifier.labels),
            prefix=prefix,
            n_tokens=n_tokens,
            iterations=iterations,
            lr=lr,
            num_inference_steps=steps,
            guidance_scale=guidance,
            checkpoint=out / "checkpoint",
            callback=bars,
        )
    explanation.save(out / "explanation")
    print(summary(explanation))
    print(f"Open {explanation.report(out / 'report.html')}")


def chosen_target(text: str, labels: Sequence[str] | None) -> int | str:
    """Return what a target on the command line names: a label, else a class by number, else what explain() reads.

    Args:
        text: as it was typed.
        labels: names of the classes, None if they have none.
    """
    return int(text) if text.isdecimal() and text not in (labels or ()) else text
