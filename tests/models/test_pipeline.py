"""Pipelines saved and loaded offline, and every folder that must be refused."""

import json
import pickle
import shutil
import socket
from copy import deepcopy
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.models.diffusers_sd import StableDiffusion
from diffexplain_fast.models.diffusers_sdxl import StableDiffusionXL
from diffexplain_fast.models.fingerprint import KeptHash, weights_sha256
from diffexplain_fast.models.loading import load_pipeline
from tests.engine.plain import make_scheduler
from tests.tiny import IMAGE_SIZE, LATENT_SIZE, tiny_sd, tiny_sd2, tiny_sdxl, tiny_unet

KINDS = {"sd": tiny_sd, "sd2": tiny_sd2, "sdxl": tiny_sdxl}
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved pipeline of each kind."""
    folder = tmp_path_factory.mktemp("pipelines")
    for name, make in KINDS.items():
        make().save_pretrained(folder / name)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A saved pipeline that a test may damage."""
    return Path(shutil.copytree(saved / "sd", tmp_path / "sd"))


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The requests to the network, which does not exist."""
    seen = []

    def refuse(*args):
        seen.append(args)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return seen


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_loads_to_the_same_pipeline(kind, saved, asked, capfd):
    original, loaded = load_pipeline(KINDS[kind]()), load_pipeline(saved / kind)
    assert loaded.fingerprint() == original.fingerprint()
    assert loaded.name == kind and type(loaded) is type(original)
    assert loaded.scheduler.config.prediction_type == original.scheduler.config.prediction_type
    assert (loaded.latent_shape, loaded.image_size) == ((4, LATENT_SIZE, LATENT_SIZE), (IMAGE_SIZE, IMAGE_SIZE))
    assert (loaded.device, loaded.dtype) == (torch.device("cpu"), torch.float32)
    assert not loaded.unet.training and loaded.max_tokens == original.max_tokens
    texts = ["a photo of a red boat"]
    assert torch.equal(loaded.encode_text(texts).prompt_embeds, original.encode_text(texts).prompt_embeds)
    assert asked == []
    assert capfd.readouterr() == ("", "")  # no progress bars, no advice, no warning about safety checkers
    assert diffusers.utils.logging.is_progress_bar_enabled() and transformers.utils.logging.is_progress_bar_enabled()


def test_str_and_dtype_and_sharded_weights_load(copy):
    assert load_pipeline(str(copy), dtype=torch.float64).dtype == torch.float64
    weights = load_file(copy / UNET)
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, copy / "unet" / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (copy / f"{UNET}.index.json").write_text(json.dumps(index))
    (copy / UNET).unlink()
    assert load_pipeline(copy).fingerprint() == load_pipeline(tiny_sd()).fingerprint()
    (copy / "unet" / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"the weight file b\.safetensors, got none"):
        load_pipeline(copy)
    index["weight_map"][names[1]] = "../vae/diffusion_pytorch_model.safetensors"
    (copy / f"{UNET}.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeFileError, match=r"\.\./vae"):
        load_pipeline(copy)


def test_a_checkpoint_with_a_safety_checker_loads_without_it(copy):
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit_json(copy / "model_index.json", safety_checker=checker, requires_safety_checker=True)
    assert load_pipeline(copy).name == "sd"


def test_a_hub_id_is_read_from_the_cache(saved, tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(saved / "sd", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    pipeline = load_pipeline("someone/tiny", local_files_only=True)
    assert pipeline.name == "someone/tiny"
    assert pipeline.fingerprint() == load_pipeline(saved / "sd").fingerprint()


def test_a_pipeline_object_is_used_without_a_copy():
    pipe = tiny_sd().to(torch.float64)
    pipeline = load_pipeline(pipe, device="cpu")
    assert pipeline.unet is pipe.unet and pipeline.text_encoders == (pipe.text_encoder,)
    assert pipeline.dtype == torch.float64 and pipeline.name == "StableDiffusionPipeline"
    assert load_pipeline(pipeline) is pipeline
    with pytest.raises(ValueError, match="device: wanted the device of the pipeline object, cpu, got meta"):
        load_pipeline(pipe, device="meta")


def test_xl_gives_the_time_ids_of_diffusers():
    pipe = tiny_sdxl()
    pipeline = load_pipeline(pipe)
    assert isinstance(pipeline, StableDiffusionXL)
    conditioning = pipeline.encode_text(["a boat", "a fish"])
    size = (IMAGE_SIZE, IMAGE_SIZE)
    expected = pipe._get_add_time_ids(size, (0, 0), size, torch.float32, pipe.text_encoder_2.config.projection_dim)
    extras = pipeline.extras(conditioning, 2)
    assert list(extras) == ["time_ids"] and torch.equal(extras["time_ids"], expected.repeat(2, 1))
    assert load_pipeline(tiny_sd()).extras(conditioning, 2) == {}


def test_latents_may_be_other_than_square():
    pipe = tiny_sd()
    pipe.unet.register_to_config(sample_size=[8, 12])
    pipeline = load_pipeline(pipe)
    assert (pipeline.latent_shape, pipeline.image_size) == ((4, 8, 12), (16, 24))


def test_the_fingerprint_follows_every_weight_and_dtype():
    prints = {load_pipeline(tiny_sd()).fingerprint()}
    for component in ("unet", "vae", "text_encoder"):
        pipe = tiny_sd()
        with torch.no_grad():
            list(getattr(pipe, component).parameters())[-1].view(-1)[-1].add_(1e-3)
        prints.add(load_pipeline(pipe).fingerprint())
    prints.add(load_pipeline(tiny_sd().to(torch.bfloat16)).fingerprint())
    half, brain = (torch.nn.Linear(2, 2, bias=False, dtype=dtype) for dtype in (torch.float16, torch.bfloat16))
    for layer in (half, brain):
        torch.nn.init.zeros_(layer.weight)
    assert weights_sha256(layer=half) != weights_sha256(layer=brain) != weights_sha256(other=brain)
    assert len(prints) == 5 and all(len(each) == 64 for each in prints)
    pipeline = load_pipeline(tiny_sd())
    assert pipeline.fingerprint() in prints and pipeline.fingerprint() is pipeline.fingerprint()


def test_the_fingerprint_follows_edits_of_loaded_weights():
    pipeline = load_pipeline(tiny_sd())
    prints = [pipeline.fingerprint()]
    for module in (pipeline.unet, pipeline.vae, *pipeline.text_encoders):
        weight = next(module.parameters())
        with torch.no_grad():
            weight.add_(1e-2)
        prints.append(pipeline.fingerprint())
        weight.data.mul_(2)
        prints.append(deepcopy(pipeline).fingerprint())
        assert pipeline.fingerprint() == prints[-1] != prints[-2]
    pipeline.unet.conv_in = torch.nn.utils.parametrizations.weight_norm(pipeline.unet.conv_in)
    assert len({*prints, pipeline.fingerprint()}) == 8
    assert pickle.loads(pickle.dumps(KeptHash())).of(unet=pipeline.unet) == weights_sha256(unet=pipeline.unet)


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("model_index.json", "wanted a diffusers pipeline folder with model_index.json, got none in"),
        ("unet", "wanted the component folder unet, got none in"),
        ("tokenizer", "wanted the component folder tokenizer, got none in"),
        ("scheduler", "wanted the component folder scheduler, got none in"),
        ("vae/config.json", "wanted vae/config.json, got none in"),
        (UNET, "wanted weights diffusion_pytorch_model.safetensors or model.safetensors, got none in"),
    ],
)
def test_a_folder_that_is_not_a_pipeline_names_the_missing_part(copy, path, missing):
    target = copy / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(ValueError, match=missing):
        load_pipeline(copy)


@pytest.mark.parametrize("path", [UNET, TEXT])
def test_pickled_weights_are_refused_before_anything_is_read(copy, path):
    file, trace = copy / path, copy / "trace"
    file.unlink()
    pickled = file.with_name("pytorch_model.bin" if path == TEXT else "diffusion_pytorch_model.bin")
    pickled.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(UnsafeFileError, match=f"only pickled ones: {pickled.name} in"):
        load_pipeline(copy)
    with pytest.raises(UnsafeFileError, match="not a pickle that runs code when read"):
        load_pipeline(pickled)
    assert not trace.exists()


@pytest.mark.parametrize("path", [UNET, TEXT])
@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:4], lambda b: b"\xff" * 16 + b[16:]])
def test_a_damaged_weight_file_is_named(copy, path, damage):
    (copy / path).write_bytes(damage((copy / path).read_bytes()))
    with pytest.raises(CorruptFileError, match=path.split("/")[-1]):
        load_pipeline(copy)


@pytest.mark.parametrize("path", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_damaged_settings_are_named(copy, path):
    (copy / path).write_text('{"_class_name": ')
    with pytest.raises(CorruptFileError, match=path):
        load_pipeline(copy)


@pytest.mark.parametrize("name", ["FluxPipeline", None, ["mine", "Pipeline"]])
def test_another_kind_of_pipeline_is_refused(copy, name):
    edit_json(copy / "model_index.json", _class_name=name)
    with pytest.raises(ValueError, match="wanted StableDiffusionPipeline or StableDiffusionXLPipeline"):
        load_pipeline(copy)


def test_components_with_code_of_their_own_are_refused(copy):
    edit_json(copy / "model_index.json", unet=["my_unet", "MyUNet"])
    with pytest.raises(
        UnsafeFileError, match=r"unet: wanted a class of diffusers or transformers, got my_unet\.MyUNet"
    ):
        load_pipeline(copy)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("./nowhere", ValueError),
        ("a/b/c", ValueError),
        ("", ValueError),
        (Path("nowhere"), ValueError),
        (Path(__file__), ValueError),
        (3, TypeError),
        (tiny_unet(16), TypeError),
    ],
    ids=["dot", "slashes", "empty", "path", "file", "number", "module"],
)
def test_a_value_that_is_not_a_pipeline_is_refused(source, error):
    with pytest.raises(error, match="pipeline: wanted"):
        load_pipeline(source)


def test_a_dtype_must_be_floating_point(saved):
    for dtype in ("float16", torch.int8):
        with pytest.raises(TypeError, match=r"dtype: wanted a floating point torch\.dtype"):
            load_pipeline(saved / "sd", dtype=dtype)


def test_pipelines_that_cannot_be_sampled_are_refused():
    refiner, inpainting, consistency, foreign = tiny_sdxl(), tiny_sd(), tiny_sd(), tiny_sd()
    refiner.text_encoder = None
    inpainting.unet = tiny_unet(16, in_channels=9)
    consistency.unet = tiny_unet(16, time_cond_proj_dim=8)
    foreign.text_encoder.config.model_type = "bert"
    for pipe, message in (
        (refiner, "got none for text_encoder"),
        (inpainting, "unet: wanted 4 input channels, as many as the vae's latents have, got 9"),
        (consistency, r"wanted no guidance embedding \(time_cond_proj_dim None\), got 8"),
        (foreign, "text_encoder: wanted a CLIP text encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            load_pipeline(pipe)


@pytest.mark.parametrize(
    ("scheduler", "name", "steps", "guidance"),
    [
        ("ddim", "some/model", 20, 7.5),
        ("ddim", "tinyworld", 8, 4.0),
        ("lcm", "some/model", 4, 1.0),
        ("lcm", "tinyworld", 4, 1.0),
    ],
)
def test_usual_sampling_follows_scheduler_and_weights(scheduler, name, steps, guidance):
    pipe = tiny_sd()
    pipe.scheduler = make_scheduler(scheduler)
    assert StableDiffusion(pipe, name).usual_sampling == (steps, guidance)
