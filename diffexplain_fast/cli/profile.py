"""``diffexplain-fast profile``: where the time and the memory of one optimisation iteration go."""

from pathlib import Path
from typing import Annotated

import typer

from diffexplain_fast.cli import options
from diffexplain_fast.cli.output import check_folder

_PAGE = "profile.html"


def profile(
    pipeline: options.Pipeline = "tinyworld",
    scheduler: options.Scheduler = None,
    classifier: Annotated[str, typer.Option(help='As in "explain".')] = "tinyworld/background",
    steps: Annotated[int, typer.Option(help="Sampler steps.")] = 8,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale.")] = 3.0,
    batch: Annotated[int, typer.Option(help="Pictures of one iteration.")] = 2,
    backend: Annotated[str, typer.Option(help='"fast", "reference" or "auto".')] = "fast",
    memory: Annotated[
        str, typer.Option(help='Byte limit of the fast engine, such as "8GiB"; "auto": what is free on a GPU.')
    ] = "auto",
    dtype: options.Dtype = "float32",
    graphs: Annotated[
        bool, typer.Option("--graphs", help="Replay CUDA graphs; steps, operators and owners in them are not seen.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for profile.html, profile.json and trace.json.")] = Path("profile"),
    device: options.Device = None,
) -> None:
    """Show where the time and the memory of one iteration go.

    Runs one optimisation iteration under torch's profiler, after one to warm up, and one that counts tensors: time by
    part, by kind of work and by kernel, launches, bytes by owner over time, work against the machine's ceilings, as a
    table, a page and a trace.
    """
    from diffexplain_fast.cli.device import chosen_device, chosen_dtype
    from diffexplain_fast.engine.options import SamplerOptions
    from diffexplain_fast.engine.scheduler_names import load_with_scheduler
    from diffexplain_fast.measuring.profile.collect import PROFILE, TRACE, profile_iteration
    from diffexplain_fast.measuring.profile.iteration import Iteration
    from diffexplain_fast.report.profile_page import profile_text, render_profile
    from diffexplain_fast.storage import confined

    check_folder(out, [_PAGE, PROFILE, TRACE])
    page = confined(out, _PAGE)
    loaded, place = chosen_dtype(dtype), str(chosen_device(device))
    models = load_with_scheduler(pipeline, scheduler, dtype=loaded, device=place)
    sampling = SamplerOptions(num_inference_steps=steps, guidance_scale=guidance, backend=backend, memory=memory)
    iteration = Iteration(models, classifier, batch=batch, device=place, graphs=graphs, **sampling)
    profile = profile_iteration(iteration, out)
    render_profile(profile, page)
    print(profile_text(profile))
    print(f"\nOpen {out / _PAGE}; for Perfetto or chrome://tracing: {out / TRACE}")
