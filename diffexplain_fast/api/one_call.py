"""One explanation in one call."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from diffexplain_fast.api.documented import arguments_of, names_nearest
from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.explanation import Explanation


@names_nearest(arguments_of(Explainer.explain, "target"))
def explain(
    classifier: Classifier | str | Path,
    target: object,
    pipeline: object = "tinyworld",
    *,
    backend: str = "auto",
    memory: int | str | None = "auto",
    gradient: GradientMode | str = "full",
    seed: int = 0,
    device: torch.device | str | None = None,
    call_options: Mapping[str, object] | None = None,
    **options: object,
) -> Explanation:
    """Explain one target of a classifier in one call: ``Explainer(...)`` and then ``explain(...)``.

    Args:
        classifier: see ``Explainer``.
        target: see ``Explainer.explain``.
        pipeline: see ``Explainer``.
        backend: see ``Explainer``.
        memory: see ``Explainer``.
        gradient: see ``Explainer``.
        seed: see ``Explainer``.
        device: see ``Explainer``.
        call_options: see ``Explainer``.
        **options: everything ``Explainer.explain`` takes.

    Returns:
        The explanation.

    Raises:
        TypeError: see ``Explainer.explain``.
        ValueError: see ``Explainer.explain``.

    Source: DiffExplainer (arXiv 2404.02618).
    """
    explainer = Explainer(
        pipeline,
        classifier,
        backend=backend,
        memory=memory,
        gradient=gradient,
        seed=seed,
        device=device,
        call_options=call_options,
    )
    with explainer:
        run: Callable[..., Explanation] = explainer.explain  # it checks the kind of every option itself
        return run(target, **options)
