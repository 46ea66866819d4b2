"""Files are complete or absent, damage is detected, and no path leaves its folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffexplain_fast.errors import CorruptFileError, StorageError, UnsafeFileError
from diffexplain_fast.storage import (
    MANIFEST,
    check_manifest,
    confined,
    load_tensors,
    read_json,
    save_tensors_atomic,
    sha256_file,
    write_bytes_atomic,
    write_json_atomic,
    write_manifest,
)


def test_content_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    write_bytes_atomic(path, b"one")
    write_bytes_atomic(path, b"two")
    assert path.read_bytes() == b"two" and os.listdir(path.parent) == ["a.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_bytes_atomic(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


FULL_DISK = """
import resource, signal, sys
from diffexplain_fast.storage import write_bytes_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes_atomic(sys.argv[1], b"x" * 100_000)
except OSError as error:
    print(type(error).__name__, error)
"""


def test_no_space_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on file size fails in write(), as a full disk does."""
    path = tmp_path / "state.bin"
    path.write_bytes(b"before")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StorageError") and str(path) in done.stdout and "100000 bytes" in done.stdout
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["state.bin"]


def test_a_full_device_is_told(tmp_path: Path) -> None:
    """In that process ``open`` leads to /dev/full, which answers every write with "no space left"."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    code = FULL_DISK.replace("resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))", "").replace(
        "try:", "import builtins; real = open; builtins.open = lambda *_: real('/dev/full', 'wb')\ntry:"
    )
    path = tmp_path / "state.bin"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "No space left" in done.stdout and not path.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(StorageError, match=r"file.inside\.bin: wanted space and permission for 1 bytes, got") as caught:
        write_bytes_atomic(tmp_path / "file" / "inside.bin", b"x")
    assert caught.value.errno is not None and (tmp_path / "file").read_bytes() == b"kept"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="got Is a directory"):
        write_bytes_atomic(tmp_path, b"x")
    assert os.listdir(tmp_path) == []


def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    code = (
        "import os, sys; from diffexplain_fast.storage import write_bytes_atomic\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: write_bytes_atomic(sys.argv[1], b'x')\n"
        "except OSError as error: print(type(error).__name__, error.errno, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / "a"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StorageError 13") and "Permission denied" in done.stdout


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    value = {"word": "Größe", "list": [1, 2.5, None, True]}
    write_json_atomic(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(TypeError):
        write_json_atomic(tmp_path / "a.json", {"no": object()})
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "open", "bytes", "deep"])
def test_content_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"a\.json: wanted JSON"):
        read_json(tmp_path / "a.json")


def test_a_key_twice_is_refused_and_named(tmp_path: Path) -> None:
    for content in ('{"a": 1, "b": 2, "a": 3}', '[{"deep": {"a": 1, "a": 1}}]'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(CorruptFileError, match=r"a\.json: wanted JSON, got the key 'a' twice in one object"):
            read_json(tmp_path / "a.json")
    assert read_json(write(tmp_path / "a.json", '{"a": {"a": {"$number": "Infinity"}}}')) == {"a": {"a": float("inf")}}


def write(path: Path, content: str) -> Path:
    """Write a text, and return its path."""
    path.write_text(content)
    return path


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    tensors = {"half": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).half(), "count": torch.tensor(7)}
    save_tensors_atomic(tmp_path / "a.safetensors", tensors)
    loaded = load_tensors(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_files_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    save_tensors_atomic(tmp_path / "a", {"x": torch.zeros(100)})
    whole = (tmp_path / "a").read_bytes()
    torch.save({"x": torch.zeros(3)}, tmp_path / "pickle")
    attacks = {
        "cut": whole[:-10],
        "huge header": (2**60).to_bytes(8, "little") + whole[8:],
        "pickle": (tmp_path / "pickle").read_bytes(),
        "empty": b"",
    }
    for name, content in attacks.items():
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(CorruptFileError, match="safetensors"):
            load_tensors(tmp_path / "a")
        assert name


def sealed(folder: Path) -> Path:
    """Return a folder with two files and a manifest."""
    save_tensors_atomic(folder / "part" / "w.safetensors", {"x": torch.arange(64.0)})
    write_json_atomic(folder / "config.json", {"a": 1})
    write_manifest(folder)
    return folder


def test_a_manifest_names_every_file(tmp_path: Path) -> None:
    files = check_manifest(sealed(tmp_path))
    assert set(files) == {"part/w.safetensors", "config.json"}
    assert files["config.json"]["sha256"] == sha256_file(tmp_path / "config.json")


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = sealed(tmp_path) / "part" / "w.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert load_tensors(path)["x"].shape == (64,)  # safetensors does not detect it
    with pytest.raises(CorruptFileError, match=r"w\.safetensors: wanted sha256"):
        check_manifest(tmp_path)


def test_missing_and_cut_files_are_seen(tmp_path: Path) -> None:
    path = sealed(tmp_path) / "config.json"
    path.write_bytes(b"{}")
    with pytest.raises(CorruptFileError, match=r"config\.json: wanted \d+ bytes, got 2"):
        check_manifest(tmp_path)
    path.unlink()
    with pytest.raises(CorruptFileError, match=r"config\.json: .* got no file"):
        check_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(CorruptFileError, match="a manifest"):
        check_manifest(tmp_path)


@pytest.mark.parametrize("value", [[], {}, {"files": []}, {"files": {"a": {"bytes": "1", "sha256": "x"}}}])
def test_a_manifest_of_another_structure_is_refused(tmp_path: Path, value: object) -> None:
    write_json_atomic(tmp_path / MANIFEST, value)
    with pytest.raises(CorruptFileError, match="another structure"):
        check_manifest(tmp_path)


ESCAPES = ["../secret", "a/../../secret", "/etc/passwd", "", ".", "a/..", "link/secret", "a\0b"]


@pytest.mark.parametrize("relative", ESCAPES)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, relative: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafeFileError, match="wanted a path inside"):
        confined(folder, relative)
    (folder / MANIFEST).write_text(json.dumps({"files": {relative: {"bytes": 1, "sha256": "0"}}}))
    with pytest.raises(UnsafeFileError):
        check_manifest(folder)


def test_paths_inside_the_folder_are_returned(tmp_path: Path) -> None:
    assert confined(tmp_path, "a/b.png") == tmp_path.resolve() / "a" / "b.png"
