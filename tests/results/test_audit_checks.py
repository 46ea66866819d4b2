"""Saved audits that contradict themselves are corrupt files, and differences leave out what one audit lacks."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.storage import write_manifest
from tests.auditing import drawn_audit

DELETED = object()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_audit().save(tmp_path_factory.mktemp("audits") / "saved")


def changed(saved: Path, folder: Path, change: Callable[[JsonObject], object]) -> Path:
    """Return a copy of a saved audit whose record is changed, with a manifest that fits it."""
    shutil.copytree(saved, folder)
    record = json.loads((folder / "audit.json").read_text())
    change(record)
    (folder / "audit.json").write_text(json.dumps(record))
    (folder / "MANIFEST.json").unlink()
    write_manifest(folder)
    return folder


def put(value: object, *keys: str | int) -> Callable[[JsonObject], object]:
    """Return a change of a record that puts a value into a place, or deletes what is there."""

    def change(record: JsonObject) -> None:
        for key in keys[:-1]:
            record = record[key]
        if value is DELETED:
            del record[keys[-1]]
        else:
            record[keys[-1]] = value

    return change


SETTINGS = [
    *((name, wrong) for name in ("minimal_effect", "level") for wrong in (DELETED, "x", {}, -1, None)),
    *((name, wrong) for name in ("pictures_used", "seed") for wrong in (DELETED, "x", {}, None)),
    *(("pictures_beside", wrong) for wrong in ("x", -1, 10**9, {"fish": -1})),
    *(("targets", wrong) for wrong in (DELETED, "x", [], ["boat"], [3])),
    *(("concepts", wrong) for wrong in (DELETED, "x", {}, {"groups": {}, "words": []}, {"groups": {}, "words": ["a"]})),
    *(("eye", wrong) for wrong in (DELETED, 3)),
    *(("control", wrong) for wrong in ("x", 3, None)),
    *(("decisions", wrong) for wrong in ("x", [3], [{"condition": "findings>1"}])),
    *(("difference", wrong) for wrong in (3, [], [{}], [{"level": "x"}, {}])),
    *(("effective_pictures", wrong) for wrong in ("x", {})),
    *(("pictures", wrong) for wrong in ("x", -1)),
    *((name, wrong) for name in ("asking_only", "showing") for wrong in ("x", [3])),
]


@pytest.mark.parametrize(("name", "wrong"), SETTINGS)
def test_settings_that_no_audit_has_are_named(name: str, wrong: object, saved: Path, tmp_path: Path) -> None:
    said = rf"audit\.json, settings.*{name}|audit\.json, rows and verdicts: .*settings, {name}|outcomes\.safetensors, "
    with pytest.raises(CorruptFileError, match=said):
        Audit.load(changed(saved, tmp_path / "a", put(wrong, "settings", name)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put([], "images"), r"audit\.json, verdicts, fish, pictures: wanted numbers below 0"),
        (put(DELETED, "images", 0), r"audit\.json, verdicts, fish, pictures: wanted numbers below 1"),
        (put([0, 2], "verdicts", "fish", "pictures"), r"audit\.json, verdicts, fish, pictures"),
        (put([], "verdicts", "fish", "concepts"), r"audit\.json, verdicts, fish, concepts"),
        (put("x", "rows", 0, "target"), r"audit\.json, rows and verdicts: wanted targets of .*, got 'x'"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_named(
    change: Callable[[JsonObject], object], said: str, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(CorruptFileError, match=said):
        Audit.load(changed(saved, tmp_path / "a", change))


@pytest.mark.parametrize("name", ["design", "values", "levels", "groups"])
def test_arrays_that_do_not_fit_the_settings_are_named(name: str, saved: Path, tmp_path: Path) -> None:
    for number, change in enumerate((lambda one: one[1:], lambda one: one[None], lambda one: one + 9)):
        folder = Path(shutil.copytree(saved, tmp_path / f"{number}"))
        arrays = load_file(folder / "outcomes.safetensors")
        arrays[name] = change(arrays[name]).contiguous()
        save_file(arrays, folder / "outcomes.safetensors")
        (folder / "MANIFEST.json").unlink()
        write_manifest(folder)
        if name == "values" and number == 2:
            assert len(Audit.load(folder).rows), "other answers are no contradiction"
            continue
        with pytest.raises(CorruptFileError, match=rf"outcomes\.safetensors, .*({name}|design)"):
            Audit.load(folder)


def test_what_fits_is_loaded_shown_and_compared(saved: Path, tmp_path: Path) -> None:
    loaded = Audit.load(saved)
    difference = loaded.diff(Audit.load(drawn_audit(1.0).save(tmp_path / "b")))
    assert Audit.load(difference.save(tmp_path / "c")).rows == difference.rows and loaded.report(tmp_path / "a.html")
    assert Audit.load(Audit("by hand", [], [], {}, {}).save(tmp_path / "d")).rows == []


def test_a_difference_leaves_out_rows_that_only_one_has() -> None:
    ours, theirs = drawn_audit(3.0), drawn_audit(1.0)
    whole = {(row.target, row.concept): row for row in ours.diff(theirs).rows}
    lacking = ours.rows[1].target, ours.rows[1].concept
    ours.rows = [ours.rows[0], *ours.rows[2:]]
    theirs.rows = [row for row in theirs.rows if row.target != "house"]
    found = ours.diff(theirs).rows
    wanted = [row for key, row in whole.items() if key != lacking and key[0] != "house"]
    places = [("fish", "background:desert"), ("boat", "colour:red")]
    assert [whole[key].effect for key in places] == pytest.approx([2.0, 0.0], abs=0.9)
    assert [(row.target, row.concept) for row in found] == [(row.target, row.concept) for row in wanted]
    assert [row.effect for row in found] == pytest.approx([row.effect for row in wanted])
    theirs.rows = []
    with pytest.raises(ValueError, match="other: wanted an audit that shares a row, got none"):
        ours.diff(theirs)


def test_a_difference_says_where_it_compares_effects_of_asking_in_place_of_showing(saved: Path, tmp_path: Path) -> None:
    ours, theirs = drawn_audit(3.0), drawn_audit(1.0)
    ours.rows[0] = replace(ours.rows[0], effect=math.nan, asked=math.nan)  # without an estimate
    assert ours.diff(theirs).settings["asking_only"] == [] and ours.diff(theirs).decide("findings>99")
    shown = [replace(row, effect=2 * row.effect) if row.concept.startswith("back") else row for row in ours.rows]
    words = [replace(row, words_p=0.5) if row.concept.startswith("colour") else row for row in theirs.rows]
    told = drawn_audit(3.0)
    told.settings |= {"showing": ["object"], "redraw": 4}
    for first, second, groups in [
        (Audit("a", shown, [], {}, ours.settings, outcomes=ours.outcomes), theirs, ["background"]),
        (ours, Audit("b", words, [], {}, theirs.settings, outcomes=theirs.outcomes), ["colour"]),
        (told, theirs, ["object"]),
    ]:
        difference = Audit.load(first.diff(second).save(tmp_path / groups[0]))
        assert difference.settings["asking_only"] == groups
        for text in ("spurious>0.5", "findings>0"):
            with pytest.raises(
                ValueError, match=f"wanted false_answers for .* showing in {groups[0]}, where .* asking"
            ):
                difference.decide(text)
        assert not difference.decide("false_answers>1")[0].failed
        assert f"in {groups[0]} effects of asking" in difference.report(tmp_path / "page.html").read_text()
