"""``python -m diffexplain_fast.tinyworld.recipe``: rebuild the models of the tiny world."""

import argparse
import logging
from pathlib import Path

import torch

from diffexplain_fast.recipe.stages import STAGES, run


def main() -> None:
    """Parse the command line and run the stages asked for."""
    parser = argparse.ArgumentParser(prog="python -m diffexplain_fast.tinyworld.recipe", description=__doc__)
    parser.add_argument("stages", nargs="*", default=list(STAGES), help=f"any of {', '.join(STAGES)}; default: all")
    parser.add_argument("--build", type=Path, default=Path("world-build"), help="folder for everything in between")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    run(arguments.stages, arguments.build, torch.device(arguments.device))


if __name__ == "__main__":
    main()
