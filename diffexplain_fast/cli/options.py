"""Options that several commands share."""

from typing import Annotated

import typer

Pipeline = Annotated[
    str,
    typer.Option(help='"tinyworld", "tinyworld-lcm", or a folder or hub id of a Stable Diffusion pipeline.'),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help='"ddim", "lcm", "euler" or "dpm" with the noise levels of the pipeline; by default as in the pipeline.'
    ),
]
Device = Annotated[str | None, typer.Option(help='"cpu" or "cuda"; by default the GPU, if there is one.')]
Dtype = Annotated[str, typer.Option(help='Of all models: "float32", "bfloat16" or "float16".')]

Backend = Annotated[str, typer.Option(help='"auto", "reference" or "fast".')]

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        help='A class by label or number, a neuron as "layer:unit", or a sum such as '
        '"logit:boat + 0.5*neuron:layer4:17"; several are explained one after another.'
    ),
]
Every = Annotated[bool, typer.Option("--all", help="Explain every class.")]
Prefix = Annotated[str, typer.Option(help='Words before the searched tokens, such as "a texture of".')]
Batch = Annotated[
    str,
    typer.Option(help='Pictures of one optimisation step; "auto" takes as many as the limit of --memory gives.'),
]
Candidates = Annotated[
    str | None, typer.Option(help='Words to try first, separated by commas, or "@words.txt" with one a line.')
]
Budget = Annotated[
    str | None,
    typer.Option(
        help='Limit of the search for each target: rows of the denoiser as 2000 or "2000 rows", '
        'or a time as "40 s" or "5 min".'
    ),
]
Modes = Annotated[
    int, typer.Option(min=1, help="Explanations to look for that differ from one another, for each target.")
]
Steps = Annotated[int | None, typer.Option(help="Sampler steps; the default depends on the pipeline.")]
Guidance = Annotated[
    float | None, typer.Option(help="Classifier-free guidance scale; the default depends on the pipeline.")
]
Memory = Annotated[str, typer.Option(help='Limit of memory, such as "8GiB"; "auto" is the free memory of a GPU.')]
SearchMemory = Annotated[
    str,
    typer.Option(
        help='Limit of memory of the search of --explain, such as "8GiB"; "auto" is the free memory of a GPU. '
        "Pictures that are only drawn keep nothing for a gradient."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each target, and nothing else.")]
OneJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
Seed = Annotated[int, typer.Option(help="Every random number follows from it.")]
