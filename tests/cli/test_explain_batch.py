"""``explain --batch``: a number, or what the memory gives."""

from pathlib import Path

from diffexplain_fast.results.explanation import Explanation
from tests.cli.running import run

QUICK = ["--iterations", "2", "--n-tokens", "1", "--steps", "1", "--guidance", "1"]


def test_explain_takes_as_many_pictures_as_the_memory_gives(models: tuple[str, str], tmp_path: Path) -> None:
    classifier, pipeline = models
    words = ["explain", classifier, "boat", "--pipeline", pipeline, "--candidates", "red", *QUICK]
    auto = [*words, "--batch", "auto", "--memory", "1GiB", "--out", tmp_path / "auto"]
    code, text = run(*auto)
    assert code == 0, text
    settings = Explanation.load(tmp_path / "auto" / "explanation").settings
    assert settings["options"]["images_per_step"] == 8 and settings["asked"] == {"images_per_step": "auto"}
    for wrong in ("many", "1.5", "0"):
        code, text = run(*words, "--batch", wrong, "--out", tmp_path / "wrong")
        assert code == 2 and "images_per_step: wanted a whole number of at least 1" in text and wrong in text
    assert not (tmp_path / "wrong" / "checkpoint").exists()
