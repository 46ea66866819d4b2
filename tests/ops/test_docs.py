"""The checklist for a new op is true for every op of the package."""

import re
from pathlib import Path

import pytest

from diffexplain_fast.ops._impl import OFFERED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "adding-an-op.md").read_text(encoding="utf-8")
AOT_TABLE, AOT_CASES = (
    (ROOT / "benchmarks" / f"aot_cases.{kind}").read_text(encoding="utf-8") for kind in ("toml", "py")
)
HEAD, *TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")
]
PLACES = {
    "reference": "diffexplain_fast/ops/reference/{}.py",
    "Triton": "kernels/fused/{}.py",
    "CUDA": "csrc/cuda/{}.cu",
    "C++": "csrc/cpu/{}.cpp",
}
OPS = {row[0].strip("`"): dict(zip(HEAD, row, strict=True)) for row in TABLE}


def test_the_table_has_every_op() -> None:
    folder = ROOT / "diffexplain_fast" / "ops"
    public = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(OPS) == public - {"doctor", "raw"}


@pytest.mark.parametrize("op", OPS)
def test_a_row_names_exactly_the_files_that_exist(op: str) -> None:
    row = OPS[op]
    assert (ROOT / f"tests/ops/test_{op}.py").exists()
    for column, place in PLACES.items():
        cell = row[column]
        stem = cell.strip("`") if cell.startswith("`") else op
        assert (cell != "no") == (ROOT / place.format(stem)).exists(), (
            f"{op}, {column}: docs/adding-an-op.md says {cell}"
        )
        if column == "Triton" and cell != "no":
            assert (ROOT / f"tests/kernels/test_{stem}.py").exists()
            assert f"\n[[{stem}]]\n" in AOT_TABLE or f'"{stem}": _{stem}' in AOT_CASES
    registered = "interleave" if op == "upsample_conv" else op
    assert ("registered" in row["contract"]) == (registered in OFFERED)
    source = (ROOT / f"diffexplain_fast/ops/{op}.py").read_text(encoding="utf-8")
    assert ("own backward" in row["contract"]) == ("torch.autograd.Function)" in source)


def test_every_file_that_the_page_names_exists() -> None:
    named = {name for name in re.findall(r"`([\w/.<>-]+\.(?:py|h|json|cpp))`", TEXT) if "<op>" not in name}
    assert named and not [
        name for name in named if not any((ROOT / top / name).exists() for top in ("", "diffexplain_fast"))
    ]
