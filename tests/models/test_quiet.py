"""What other libraries say while a model is loaded is not shown where it helps nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {
    "a pipeline": "from diffexplain_fast.models.loading import load_pipeline; load_pipeline('tinyworld')",
    "a pipeline that the hub does not give": (
        "from diffexplain_fast.models.loading import load_pipeline\n"
        "try:\n    load_pipeline('nobody/nothing')\nexcept OSError as error:\n    assert 'hub id' in str(error)"
    ),
    **{
        f"the shipped {name}": f"from diffexplain_fast.tinyworld import store; store.{name}()"
        for name in ("load_captioner", "load_clip", "load_segmenter", "load_probe")
    },
    "a public configuration": (
        "import torch\nfrom diffexplain_fast.models.public import public_models\npublic_models('sd15', torch.bfloat16)"
    ),
}


@pytest.mark.parametrize("name", LOADS)
def test_nothing_is_said(name: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", LOADS[name]]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout + done.stderr == ""
