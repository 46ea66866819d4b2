"""An explanation is saved completely and loaded exactly; damaged or hostile files are refused."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.results.explanation import ActivationScore, Explanation
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.storage import MANIFEST
from tests.explaining import NAMED
from tests.results.explanations import assert_equal, example, tampered


def test_an_explanation_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    folder = example().save(tmp_path / "boat")
    assert_equal(Explanation.load(folder), example())
    assert sorted(os.listdir(folder)) == [MANIFEST, "explanation.json", "images", "prompt_embeds.safetensors"]
    assert os.listdir(tmp_path) == ["boat"]


def test_a_target_without_a_class_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    score = ActivationScore(8, None, None, 1.0, None)
    without = example(label=None, truth=None, activation={"train": score, "held_out": score})
    assert_equal(Explanation.load(without.save(tmp_path / "neuron")), without)


def test_the_mean_of_a_sum_is_loaded_and_files_of_earlier_versions_have_none(tmp_path: Path) -> None:
    score = ActivationScore(8, 0.5, (0.2, 0.8), 1.0, 0.5, -2.5)
    total = example(target="ClassLogit(boat) - ClassLogit(fish)", activation={"held_out": score})
    assert_equal(Explanation.load(total.save(tmp_path / "sum")), total)
    assert score.mean_target == -2.5 and ActivationScore(8, 0.5, (0.2, 0.8), 1.0, 0.5).mean_target == 1.0
    before = {"held_out": {key: value for key, value in vars(score).items() if key != "mean_score"}}
    (read,) = Explanation.load(tampered(tmp_path / "before", activation=before)).activation.values()
    assert read.mean_score is None and read.mean_target == 1.0
    with pytest.raises(CorruptFileError, match="activation"):
        Explanation.load(tampered(tmp_path / "less", activation={"held_out": {"n": 8, "rate": None}}))


def test_a_regression_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    score = ActivationScore(8, None, (31.5, 36.25), 34.0, None)
    number = example(activation={"held_out": score}, output="regression", reached=False)
    found = Explanation.load(number.save(tmp_path / "age"))
    assert_equal(found, number)
    assert (found.output, found.reached) == ("regression", False)


def test_a_name_is_loaded_as_it_was_saved_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert Explanation.load(example(named=NAMED).save(tmp_path / "a")).named == NAMED
    with pytest.raises(CorruptFileError, match="named"):
        Explanation.load(tampered(tmp_path / "b", named={**NAMED, "probability": 2.0}))


def test_fields_that_earlier_versions_lack_are_written_only_if_they_differ_from_the_default(tmp_path: Path) -> None:
    record = json.loads((example().save(tmp_path / "a") / "explanation.json").read_text())
    assert set(record) == {*vars(example()), "format"} - {
        "prompt_embeds",
        "output",
        "reached",
        "named",
        "pictures",
        "others",
    }
    found = Explanation.load(tmp_path / "a")
    assert (found.output, found.reached, found.pictures) == ("softmax", None, {})
    with pytest.raises(CorruptFileError, match="reached: wanted"):
        Explanation.load(tampered(tmp_path / "b", reached="yes"))


def with_pictures() -> Explanation:
    """Return the example with the answers to its pictures, pictures of the class name, and a failure."""
    found = example()
    other = Image.new("RGB", (8, 8), "green")
    shown = [Picture(image, Answer(i, 2.5, 0.9, True, "boat")) for i, image in enumerate(found.images)]
    missed = Picture(other, Answer(9, -1.0, None, False))
    return example(images=found.images, pictures={"held_out": shown, "class_name": [missed], "failures": []})


def test_pictures_and_their_answers_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    folder = with_pictures().save(tmp_path / "a")
    assert sorted(os.listdir(folder / "images")) == ["000.png", "001.png", "class_name-000.png"]
    found, saved = Explanation.load(folder).pictures, with_pictures().pictures
    assert list(found) == list(saved)
    for group in saved:
        assert [picture.answer for picture in found[group]] == [picture.answer for picture in saved[group]]
        pixels = [[picture.image.tobytes() for picture in shown[group]] for shown in (found, saved)]
        assert pixels[0] == pixels[1]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"image": "images/000.png", "answer": {"latent": -1, "logit": 0.0}}, "pictures, held_out, 0, answer: wanted"),
        ({"image": 3, "answer": asdict(Answer(0, 0.0))}, "pictures, held_out, 0, image: wanted str"),
        ({"image": "images/none.png", "answer": asdict(Answer(0, 0.0))}, "none.png: wanted an image"),
        ({"answer": asdict(Answer(0, 0.0))}, "the record of an explanation"),
    ],
    ids=["answer", "name", "no file", "no image"],
)
def test_pictures_of_another_structure_are_refused(tmp_path: Path, entry: dict, said: str) -> None:
    with pytest.raises(CorruptFileError, match=said):
        Explanation.load(tampered(tmp_path / "a", pictures={"held_out": [entry]}))


def test_names_that_are_not_text_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    folder = os.fsdecode(b"caf\xe9")
    found = example(settings={"classifier": folder})
    assert_equal(Explanation.load(found.save(tmp_path / "a")), found)
    assert "caf\\udce9" in found.report(tmp_path / "report.html").read_text()


def test_an_effect_measured_once_has_no_interval(tmp_path: Path) -> None:
    open_ended = {"attribute": "background:snow", "effect": 5.0, "interval": [-math.inf, math.inf], "role": "none"}
    truth = {"attributes": [open_ended]}
    found = Explanation.load(example(truth=truth).save(tmp_path / "fish"))
    assert found.truth == truth
    found.report(tmp_path / "report.html")


def test_a_saved_explanation_is_replaced(tmp_path: Path) -> None:
    example().save(tmp_path / "a")
    example(label="fish", images=[]).save(tmp_path / "a")
    assert_equal(Explanation.load(tmp_path / "a"), example(label="fish", images=[]))
    assert os.listdir(tmp_path) == ["a"]


def test_foreign_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"folder: wanted a new or empty folder.*notes\.txt"):
        example().save(tmp_path)
    with pytest.raises(ValueError, match="folder"):
        example().save(tmp_path / "notes.txt")
    folder = example().save(tmp_path / "a")
    (folder / "report.html").write_text("mine too")
    with pytest.raises(ValueError, match=r"report\.html"):
        example().save(folder)
    assert (tmp_path / "notes.txt").read_text() == "mine" and (folder / "report.html").exists()


def test_a_place_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StorageError, match=r"file.boat: wanted space and permission"):
        example().save(tmp_path / "file" / "boat")


def test_no_space_keeps_what_was_saved(tmp_path: Path) -> None:
    """The last file of a save exceeds a limit on file size, as on a disk that fills up."""
    example().save(tmp_path / "a")
    code = (
        "import resource, signal, sys, torch; from diffexplain_fast.results.explanation import Explanation\n"
        "explanation = Explanation.load(sys.argv[1])\n"
        "explanation.settings['long'] = 'x' * 100_000\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: explanation.save(sys.argv[1])\n"
        "except OSError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StorageError") and str(tmp_path / "a") in done.stdout
    assert_equal(Explanation.load(tmp_path / "a"), example())
    assert os.listdir(tmp_path) == ["a"]
