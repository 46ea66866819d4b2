"""Weights of one variant, such as fp16, are read where there are no others."""

import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import tiny_sd

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the folder of a pipeline that a test may change."""
    tiny_sd().save_pretrained(tmp_path / "sd")
    return tmp_path / "sd"


def as_variant(folder: Path, variant: str = "fp16") -> None:
    """Give all weights of a component the names that a variant has."""
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def test_a_folder_with_weights_of_one_variant_is_read(copy: Path) -> None:
    wanted = load_pipeline(copy)
    as_variant(copy / "unet")
    assert load_pipeline(copy).fingerprint() == wanted.fingerprint(), "one component"
    for name in ("vae", "text_encoder"):
        as_variant(copy / name)
    loaded = load_pipeline(copy)
    assert loaded.fingerprint() == wanted.fingerprint() and loaded.dtype == torch.float32


def test_sharded_weights_of_a_variant_are_read(copy: Path) -> None:
    pipe = tiny_sd()
    shutil.rmtree(copy / "unet")
    pipe.unet.save_pretrained(copy / "unet", max_shard_size="50KB", variant="fp16")
    assert len([*(copy / "unet").glob("*.safetensors")]) > 1
    assert load_pipeline(copy).fingerprint() == load_pipeline(pipe).fingerprint()


def test_weights_without_a_variant_are_read_where_there_are_some(copy: Path) -> None:
    wanted = load_pipeline(copy)
    save_file({}, copy / UNET.replace(".safetensors", ".fp16.safetensors"))
    assert load_pipeline(copy).fingerprint() == wanted.fingerprint()


def test_the_files_of_the_variant_that_is_read_are_checked(copy: Path) -> None:
    as_variant(copy / "text_encoder")
    (copy / UNET.replace(".safetensors", ".fp16.safetensors")).write_bytes(b"damaged")
    with pytest.raises(CorruptFileError, match=r"unet/diffusion_pytorch_model.fp16.safetensors: wanted a whole"):
        load_pipeline(copy)


def test_several_variants_are_named(copy: Path) -> None:
    shutil.copy(copy / UNET, copy / UNET.replace(".safetensors", ".ema.safetensors"))
    as_variant(copy / "vae")
    (copy / UNET).rename(copy / UNET.replace(".safetensors", ".fp16.safetensors"))
    with pytest.raises(ValueError, match=r"or those of one variant, got those of 2 variants, ema, fp16, in .*unet"):
        load_pipeline(copy)
    (copy / UNET.replace(".safetensors", ".fp16.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"weights of one variant .*, got \{'unet': 'ema', 'vae': 'fp16'"):
        load_pipeline(copy)


@pytest.mark.parametrize("there", ["fp16", "ema"])
def test_a_hub_id_with_one_variant_is_downloaded(there: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_variant(copy / "unet", there)

    def download(source: str, variant: str | None = None, **options: object) -> str:
        if variant is None:
            raise OSError(f"Could not find the necessary `safetensors` weights in {source} (variant=None)")
        if variant != there:
            raise ValueError(f"You are trying to load model files of the `variant={variant}`")
        return str(copy)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", download)
    if there == "fp16":
        assert load_pipeline("some/model").name == "some/model"
        return
    with pytest.raises(UnsafeFileError, match=r"safetensors weights, or fp16 ones, got only pickled ones, or other"):
        load_pipeline("some/model")
