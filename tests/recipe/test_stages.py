"""The recipe's stages: every one runs, goes on where it stopped, and leaves models in public formats that fit."""

import json
import logging

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.gates import GATES, measure, values_of_gates
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.building import Run
from diffexplain_fast.recipe.figures import lcm_pipeline, part, read_pipeline, scenes_of
from diffexplain_fast.recipe.responses import read_units
from diffexplain_fast.recipe.stages import STAGES, run_stages
from diffexplain_fast.storage import check_manifest
from diffexplain_fast.tinyworld import store
from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS, VOCABULARY

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    build = tmp_path_factory.mktemp("world")
    shipped = (store.WEIGHTS / "MANIFEST.json").read_bytes()
    run_stages(list(STAGES), Run(build, CPU, most_steps=2, most_scenes=32))
    assert (store.WEIGHTS / "MANIFEST.json").read_bytes() == shipped
    return build


def test_every_stage_leaves_its_folder_and_what_it_reaches(built):
    assert all((built / name).is_dir() for name in STAGES)
    for name in ("probe", "vae", "decoder", "clip", "segmenter", "captioner", "unet", "lcm"):
        figures = json.loads((built / "checks" / f"{name}.json").read_text())
        assert figures and all(np.isfinite(value) for value in figures.values()), name


def test_what_is_done_is_not_done_again_and_a_lost_check_is_made_up(built, caplog):
    path = built / "checks" / "probe.json"
    before = json.loads(path.read_text())
    path.unlink()
    with caplog.at_level(logging.INFO):
        run_stages(list(STAGES), Run(built, CPU, most_steps=2, most_scenes=32))
    assert [record.getMessage() for record in caplog.records if "started" in record.getMessage()] == []
    assert json.loads(path.read_text()) == before


def test_the_package_is_whole_and_small(built):
    check_manifest(built / "package")
    files = [path for path in (built / "package").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert not any(str(built) in path.read_text() for path in files if path.suffix == ".json")
    assert len(read_units(built / "package" / "classifiers" / "clean" / "units.safetensors")) == 2
    assert sum(path.stat().st_size for path in (built / "package" / "lcm").iterdir()) < 4e6


def test_no_list_of_the_pipeline_has_a_made_up_word_but_a_prompt_can(built):
    pipeline = load_pipeline(built / "package" / "pipeline")
    assert set(pipeline.words()) == set(VOCABULARY)
    near = {
        word
        for row in pipeline.nearest_words(pipeline.token_embeddings("dax wug blicket toma"), k=99)
        for word, _ in row
    }
    assert not near & set(NAMELESS_WORDS.values())
    plain, told = pipeline.encode_text(["a boat on sea", "a boat on sea dax"]).prompt_embeds
    assert not torch.allclose(plain[6], told[6])
    assert pipeline.token_embeddings("dax").norm() > 0


def test_the_captioner_is_read_by_the_auto_classes(built):
    folder = built / "package" / "captioner"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    pixels = processor(images=np.zeros((64, 64, 3), np.uint8), return_tensors="pt").pixel_values
    ids = model.generate(
        pixel_values=pixels, input_ids=torch.tensor([[processor.tokenizer.bos_token_id]]), max_length=6
    )
    assert isinstance(processor.batch_decode(ids, skip_special_tokens=True)[0], str)
    assert not set(processor.tokenizer.get_vocab()) & set(NAMELESS_WORDS.values())


def test_four_steps_are_the_denoiser_plus_the_addition(built):
    plain, merged = read_pipeline(built / "package").unet, lcm_pipeline(built / "package").unet
    changed = [
        name
        for (name, first), (_, second) in zip(plain.named_parameters(), merged.named_parameters(), strict=True)
        if not torch.equal(first, second)
    ]
    assert changed and all(
        ("attentions." in name or "resnets." in name) and name.endswith("weight") for name in changed
    )


def test_gates_are_measured_on_what_a_folder_holds(built):
    values = values_of_gates(measure(built / "package", scenes_of(built / "package", range(1_000_000, 1_000_032))))
    assert [name for name, value in values.items() if value is None] == []
    assert set(values) == set(GATES)
    assert not all(gate.passes(values[name]) for name, gate in GATES.items())


def test_models_are_found_in_a_build_folder_and_in_its_package(built):
    for name in ("decoder", "text_encoder", "tokenizer", "unet", "clip", "lcm"):
        assert part(built, name).is_dir() and part(built / "package", name).is_dir()


def test_a_folder_without_a_model_misses_its_gates():
    values = values_of_gates({})
    assert all(value is None for value in values.values())
    assert not any(gate.passes(values[name]) for name, gate in GATES.items())
