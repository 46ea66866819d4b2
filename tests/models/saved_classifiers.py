"""Classifier folders in the format of transformers, saved by the tests that load or damage them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tiny import LABELS

NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
VIT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 4}
WEIGHTS, STEPS = "model.safetensors", "preprocessor_config.json"
AS_THEY_ARE = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_normalize": False}


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def pixels(size: int = 16) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
