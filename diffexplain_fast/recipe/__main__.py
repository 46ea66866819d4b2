"""``python -m diffexplain_fast.tinyworld.recipe``: build the models of the tiny world.

Stages that are done are left out and a stage that was stopped goes on from its checkpoint, so that the same command
resumes. Everything stays in the build folder; only the stage "ship", which must be named, replaces the shipped weights.
"""

import argparse
import logging
from pathlib import Path

import torch

from diffexplain_fast.recipe.building import Run
from diffexplain_fast.recipe.stages import STAGES, run_stages


def main() -> None:
    """Parse the command line and run the stages asked for."""
    parser = argparse.ArgumentParser(prog="python -m diffexplain_fast.tinyworld.recipe", description=__doc__)
    known = [*STAGES, "ship"]
    parser.add_argument(
        "stages", nargs="*", default=list(STAGES), help=f"any of {', '.join(known)}; default: all but ship"
    )
    parser.add_argument("--build", type=Path, default=Path("world-build"), help="folder for everything in between")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most-steps", type=int, help="of every training: a few prove that all stages run")
    parser.add_argument("--most-scenes", type=int, help="of every data set, likewise")
    parser.add_argument("--without-figures", action="store_true", help="leave them to a later run, on another machine")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.stages if name not in known]
    if unknown:
        parser.error(f"stages: wanted any of {', '.join(known)}, got {', '.join(unknown)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    device = torch.device(arguments.device)
    run = Run(
        arguments.build, device, arguments.most_steps, arguments.most_scenes, figures=not arguments.without_figures
    )
    run_stages(arguments.stages, run)


if __name__ == "__main__":
    main()
