"""Options that several commands share."""

from typing import Annotated

import typer

Pipeline = Annotated[str, typer.Option(help='"tinyworld", or a folder or hub id of a Stable Diffusion pipeline.')]
Scheduler = Annotated[
    str | None,
    typer.Option(help='"ddim", "lcm", "euler" or "dpm" with the noise levels of the pipeline; by default its own.'),
]
Device = Annotated[str | None, typer.Option(help='"cpu" or "cuda"; by default the GPU if there is one.')]
Steps = Annotated[int | None, typer.Option(help="Sampler steps; by default what suits the pipeline.")]
Guidance = Annotated[
    float | None, typer.Option(help="Classifier-free guidance scale; by default what suits the pipeline.")
]
Seed = Annotated[int, typer.Option(help="Every random number follows from it.")]
Classifier = Annotated[
    str,
    typer.Argument(
        help='"tinyworld/companion", "timm/<model>", "torchvision/<model>", or a folder or hub id of an image '
        "classifier of transformers."
    ),
]
