"""The pool: every picture is drawn once, whoever asks, and a pool that was interrupted ends with the same bits."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import CorruptFileError, NonFiniteError
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.pool import UNIT, Pool, pool_name
from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import seeded, tiny_sd, tiny_sd2

CAPTIONS = tuple(f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("boat", "fish", "tree", "house")) * 4


def drawing(pipe: object = None, seed: int = 0, **options: object) -> Drawing:
    """Return a drawing of two steps."""
    pipeline = load_pipeline(tiny_sd() if pipe is None else pipe)
    options = {"num_inference_steps": 2, "guidance_scale": 1.0, **options}
    return Drawing(pipeline, DifferentiableSampler.from_pipe(pipeline, **options), seed)


def all_pictures(pool: Pool, first: int = 0, last: int = len(CAPTIONS), stage: str = "context") -> Tensor:
    """Return pictures of the pool, one after the other."""
    return torch.cat(list(pool.pictures(stage, CAPTIONS, first, last)))


def test_pictures_are_drawn_once_and_read_back(tmp_path: Path) -> None:
    first = Pool(tmp_path, drawing())
    pictures = all_pictures(first)
    assert pictures.shape == (len(CAPTIONS), 3, 16, 16) and pictures.dtype == torch.uint8
    assert first.drawn == len(CAPTIONS)
    second = Pool(tmp_path, drawing())
    assert torch.equal(all_pictures(second), pictures) and second.drawn == 0
    assert torch.equal(all_pictures(second, 8, 21), pictures[8:21])


def test_a_pool_that_was_interrupted_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = all_pictures(Pool(tmp_path / "whole", drawing()))
    asked: list[str] = []

    def interrupt(done: int, total: int) -> None:
        asked.append(f"{done} of {total}")
        if done == 2 * UNIT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Pool(tmp_path / "cut", drawing()).pictures("context", CAPTIONS, 0, len(CAPTIONS), interrupt))
    assert asked == ["8 of 32", "16 of 32"]
    resumed = Pool(tmp_path / "cut", drawing())
    assert torch.equal(all_pictures(resumed), whole)
    assert resumed.drawn == len(CAPTIONS) - 2 * UNIT
    names = [sorted(path.name for path in (tmp_path / part).glob("*.png")) for part in ("whole", "cut")]
    assert names[0] == names[1]


def _fill(folder: Path, drawn: "multiprocessing.Queue[int]") -> None:
    torch.set_num_threads(1)
    pool = Pool(folder, drawing())
    all_pictures(pool)
    drawn.put(pool.drawn)


@pytest.mark.slow
def test_two_processes_draw_each_picture_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    drawn: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_fill, args=(tmp_path, drawn)) for _ in range(2)]
    for worker in workers:
        worker.start()
    counts = [drawn.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sum(counts) == len(CAPTIONS)


def test_the_pool_of_another_pipeline_sampler_or_seed_is_refused(tmp_path: Path) -> None:
    before = all_pictures(Pool(tmp_path, drawing()), last=8)
    with pytest.raises(ValueError, match=r"folder: wanted units of the same .*pipeline_fingerprint"):
        Pool(tmp_path, drawing(tiny_sd2()))
    scaled, shifted, worded = (tiny_sd() for _ in range(3))
    scaled.vae.register_to_config(scaling_factor=0.5)
    shifted.vae.register_to_config(shift_factor=0.1)
    worded.tokenizer.add_tokens(["lorikeet"])
    for pipe, named in ((scaled, "vae"), (shifted, "vae_settings"), (worded, "tokenizers")):
        with pytest.raises(ValueError, match=f"folder: wanted units of the same {named} "):
            Pool(tmp_path, drawing(pipe))
    with pytest.raises(ValueError, match="folder: wanted units of the same sampler and schedule"):
        Pool(tmp_path, drawing(num_inference_steps=3))
    with pytest.raises(ValueError, match=r"folder: wanted units of the same seed .*got seed: 0, not 1"):
        Pool(tmp_path, drawing(seed=1))
    assert torch.equal(all_pictures(Pool(tmp_path, drawing()), last=8), before)


def adapted(scale: float, enabled: bool = True) -> object:
    """Return a pipeline with a LoRA, whose weights are equal for every scale."""
    pipe = tiny_sd()
    seeded(lambda: pipe.unet.add_adapter(LoraConfig(lora_alpha=8 * scale, target_modules=["to_q"])))
    if not enabled:
        pipe.unet.disable_adapters()
    return pipe


def with_freeu() -> object:
    """Return a pipeline with FreeU."""
    pipe = tiny_sd()
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    return pipe


def test_a_pool_of_equal_weights_that_are_used_otherwise_is_refused(tmp_path: Path) -> None:
    Pool(tmp_path / "adapted", drawing(adapted(1.0)))
    Pool(tmp_path / "usual", drawing())
    refused = {"adapted": [adapted(0.1), adapted(1.0, enabled=False)], "usual": [with_freeu()]}
    for name, pipes in refused.items():
        for pipe in pipes:
            with pytest.raises(ValueError, match="folder: wanted units of the same unet_settings in"):
                Pool(tmp_path / name, drawing(pipe))
    Pool(tmp_path / "adapted", drawing(adapted(1.0)))
    names = {pool_name(drawing(pipe)) for pipe in (None, with_freeu(), adapted(1.0), *refused["adapted"])}
    assert len(names) == 5


def test_the_backend_does_not_matter_to_a_pool() -> None:
    assert pool_name(drawing(backend="fast")) == pool_name(drawing(backend="reference"))
    assert pool_name(drawing(gradient="last:1")) == pool_name(drawing())
    assert pool_name(drawing(gradient="shortcut:1")) != pool_name(drawing())
    assert pool_name(drawing(guidance_scale=2.0)) != pool_name(drawing())


def test_stages_share_no_start_latents(tmp_path: Path) -> None:
    pool = Pool(tmp_path, drawing())
    assert not torch.equal(all_pictures(pool, last=8), all_pictures(pool, last=8, stage="own-1"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    pool = Pool(tmp_path, drawing())
    all_pictures(pool, last=8)
    (path,) = tmp_path.glob("*.png")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFileError, match=rf"{path.name}: wanted a PNG image \(remove the file"):
        all_pictures(pool, last=8)


def test_a_picture_that_is_not_finite_is_not_stored(tmp_path: Path) -> None:
    pipe = tiny_sd()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="pictures: wanted finite pictures of"):
        all_pictures(Pool(tmp_path, drawing(pipe)), last=8)
    assert not list(tmp_path.glob("*.png"))
