"""The versions and devices that doctor prints and results record are those of this machine."""

import json
import platform

import torch

from diffexplain_fast.environment import default_device, device_record, versions


def test_versions_are_those_that_are_imported() -> None:
    found = versions()
    assert found["torch"] == torch.__version__ and found["python"] == platform.python_version()
    assert set(found) == {
        "python",
        "diffexplain_fast",
        "torch",
        "diffusers",
        "transformers",
        "triton",
        "xformers",
        "numpy",
    }


def test_the_record_is_json_and_names_every_device() -> None:
    record = device_record()
    assert json.loads(json.dumps(record)) == record
    assert record["cpu"] and record["threads"] == torch.get_num_threads()
    assert len(record["cuda"]) == torch.cuda.device_count()
    assert default_device().type == ("cuda" if record["cuda"] else "cpu")
