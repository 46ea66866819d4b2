"""Options that several commands share."""

from typing import Annotated

import typer

Pipeline = Annotated[str, typer.Option(help='"tinyworld", or a folder or hub id of a Stable Diffusion pipeline.')]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help='"ddim", "lcm", "euler" or "dpm" with the noise levels of the pipeline; by default as in the pipeline.'
    ),
]
Device = Annotated[str | None, typer.Option(help='"cpu" or "cuda"; by default the GPU, if there is one.')]
Dtype = Annotated[str, typer.Option(help='Of all models: "float32", "bfloat16" or "float16".')]
