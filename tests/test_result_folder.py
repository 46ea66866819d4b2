"""A folder of results is the old one or the new one, in any place, with other readers and writers, and after kills."""

import errno
import os
from pathlib import Path

import pytest

from diffexplain_fast import result_folder
from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.file_systems import claim, release
from diffexplain_fast.result_folder import read_folder, write_folder
from diffexplain_fast.storage import MANIFEST
from tests.places import mounted_folder, public_folder, run_as_nobody
from tests.test_file_systems import LONGEST, refusing, without_locks

LOCK = ".diffexplain-lock"


def files_of(number: int) -> dict[str, bytes]:
    """Return the files of a result; the number decides their names and appears in their content."""
    names = ["record.json", *(f"images/{i}.png" for i in range(number % 4))]
    return {name: f"{name} of {number} ".encode() * 100 for name in names}


def save(place: Path, number: int) -> Path:
    """Save the result of a number."""

    def write(folder: Path) -> None:
        for name, content in files_of(number).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    return write_folder(place, write)


def assert_at_rest(place: Path, number: int) -> None:
    """Assert that a folder holds only the result of a number."""
    assert read_folder(place) == files_of(number)
    found = {path.relative_to(place).as_posix() for path in place.rglob("*")}
    assert found - {"images"} == {MANIFEST, *files_of(number)}
    assert ("images" in found) == (number % 4 > 0), "an empty folder is left"


def test_a_result_is_replaced_by_one_of_other_files(tmp_path: Path) -> None:
    for number in (3, 0, 2, 1):
        save(tmp_path / "a", number)
        assert_at_rest(tmp_path / "a", number)
        assert os.listdir(tmp_path) == ["a"]


def test_a_result_is_saved_and_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(Path("disk", "deep"))
    (tmp_path / "parent").symlink_to("disk")
    for number in (3, 2):
        assert save(tmp_path / "link", number) == tmp_path / "link"
        save(tmp_path / "parent" / "new", number)
        assert_at_rest(tmp_path / "disk" / "deep", number)
        assert_at_rest(tmp_path / "disk" / "new", number)
    assert read_folder(tmp_path / "link") == files_of(2)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "parent").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["disk", "link", "parent"]
    assert sorted(os.listdir(tmp_path / "disk")) == ["deep", "new"]


def test_links_that_lead_to_no_folder_are_refused(tmp_path: Path) -> None:
    """A link may lead to a disk that is not mounted, which would later hide a folder that was created in its place."""
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "to a file").symlink_to(tmp_path / "file")
    before = sorted(os.listdir(tmp_path))
    for name in ("gone", "circle", "to a file", "gone/inside", "circle/new/inside"):
        with pytest.raises(ValueError, match=f"folder: wanted a .*{name.split('/')[0]}"):
            save(tmp_path / name, 1)
    assert sorted(os.listdir(tmp_path)) == before and (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_a_foreign_link_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a", 0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="with images"):
        save(tmp_path / "a", 3)
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("name", ["", "."])
def test_a_result_is_saved_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for number in (3, 2):
        save(Path(name), number)
        assert_at_rest(Path(), number)
    assert os.listdir(tmp_path) == ["here"] and os.path.samefile(tmp_path / "here", ".")


def test_a_current_folder_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(StorageError, match="No such file"):
        save(Path("a"), 1)


def test_a_result_is_saved_into_a_mount_point(tmp_path: Path) -> None:
    with mounted_folder(tmp_path / "volume"):
        for number in (3, 2):
            save(tmp_path / "volume", number)
            assert_at_rest(tmp_path / "volume", number)
        assert os.listdir(tmp_path) == ["volume"]


def test_a_result_is_saved_into_a_folder_whose_parent_may_not_be_written() -> None:
    code = "for _ in '12': result_folder.write_folder(storage.Path(sys.argv[1]), lambda n: (n / 'a').write_bytes(b'a'))"
    with public_folder() as folder:
        (folder / "theirs").mkdir()
        (folder / "theirs").chmod(0o777)
        folder.chmod(0o555)
        run_as_nobody(code, folder / "theirs")
        assert read_folder(folder / "theirs") == {"a": b"a"}
        assert os.listdir(folder) == ["theirs"] and len(os.listdir(folder / "theirs")) == 2
        folder.chmod(0o755)


def test_a_folder_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    save(save(tmp_path / "private", 1), 2)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_a_folder_with_the_longest_name_is_saved(tmp_path: Path) -> None:
    place = tmp_path / ("n" * LONGEST)
    assert_at_rest(save(place, 3), 3)
    assert_at_rest(save(place, 2), 2)
    with pytest.raises(StorageError, match="File name too long"):
        save(tmp_path / "new" / ("n" * (LONGEST + 1)), 1)
    assert os.listdir(tmp_path) == [place.name]


def test_a_result_is_saved_on_file_systems_that_lack_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", refusing(os.replace, errno.EEXIST, lambda _, target: os.path.exists(target)))
    monkeypatch.setattr(os, "fsync", refusing(os.fsync, errno.EINVAL, lambda *_: True))
    without_locks(monkeypatch)
    for number in (3, 2):
        assert_at_rest(save(tmp_path / "a", number), number)
    (tmp_path / "a" / LOCK).touch()
    with pytest.raises(StorageError, match=f"if no other process is writing there, remove .*{LOCK}"):
        save(tmp_path / "a", 1)
    assert read_folder(tmp_path / "a") == files_of(2)


@pytest.mark.parametrize("exists", [False, True])
def test_a_save_that_fails_leaves_nothing(tmp_path: Path, exists: bool) -> None:
    place = tmp_path / "new" / "a"
    if exists:
        save(place, 3)

    def write(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(place, write)
    if exists:
        assert_at_rest(place, 3)
    assert os.listdir(tmp_path) == (["new"] if exists else [])


def test_a_folder_that_is_moved_away_while_it_is_saved_into_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a", 3)

    def write(folder: Path) -> None:
        (tmp_path / "a").rename(tmp_path / "moved")
        folder.mkdir(parents=True)

    with pytest.raises(StorageError, match="moved or removed"):
        write_folder(tmp_path / "a", write)
    assert read_folder(tmp_path / "moved") == files_of(3)


def test_a_writer_that_waits_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_folder, "_PATIENCE", 0.01)
    save(tmp_path / "a", 3)
    descriptor = claim(tmp_path / "a" / LOCK, 0.0)
    with pytest.raises(StorageError, match="another process is writing there"):
        save(tmp_path / "a", 2)
    assert read_folder(tmp_path / "a") == files_of(3)
    release(descriptor, tmp_path / "a" / LOCK)
    assert_at_rest(save(tmp_path / "a", 1), 1)


def test_a_save_that_still_runs_beside_is_not_touched(tmp_path: Path) -> None:
    """While one writer creates a new folder, another one creates the same folder and saves into it."""

    def write(folder: Path) -> None:
        if not (tmp_path / "a").exists():
            (tmp_path / "a").mkdir()
            save(tmp_path / "a", 3)
        (folder / "late").write_bytes(b"late")

    write_folder(tmp_path / "a", write)
    assert read_folder(tmp_path / "a") == {"late": b"late"}
    assert os.listdir(tmp_path) == ["a"]


def test_damage_is_not_mistaken_for_a_save(tmp_path: Path) -> None:
    save(tmp_path / "a", 3)
    (tmp_path / "a" / "record.json").write_bytes(b"x")
    with pytest.raises(CorruptFileError, match=r"record\.json: wanted 1700 bytes, got 1"):
        read_folder(tmp_path / "a")
    (tmp_path / "a" / "record.json").unlink()
    with pytest.raises(CorruptFileError, match=r"record\.json: wanted the file that its manifest names"):
        read_folder(tmp_path / "a")
