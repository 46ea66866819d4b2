"""What goes with a release names the version and the extras of the package as they are."""

import re
import tomllib

import diffexplain_fast as dx
from tests.docs.reading import ROOT


def test_the_citation_has_the_version() -> None:
    said = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(dx.__version__)}$", said, re.MULTILINE)


def test_the_image_is_made_from_the_wheel_with_extras_that_exist() -> None:
    image, ignored = (ROOT / "Dockerfile").read_text(encoding="utf-8"), (ROOT / ".dockerignore").read_text()
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (extras,) = re.findall(r"\$wheel\[([\w,]+)\]", image)
    assert set(extras.split(",")) <= set(known)
    assert "ARG PIP_EXTRA_INDEX_URL" in image  # another index alone would not have the other requirements
    made, place = image.index("install -d -o user"), image.index("WORKDIR /home/user/work")  # WORKDIR would be root's
    assert made < image.index("USER user") < place
    assert "COPY dist/*.whl /tmp/" in image and ignored.splitlines() == ["*", "!dist/*.whl"]


def test_all_is_every_extra_that_the_package_itself_may_import() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = known.pop("all")
    (names,) = re.findall(r"^diffexplain-fast\[([\w,]+)\]$", line)
    others = {"xformers", "ray", "quantus", "imagenet", "search", "browser", "test", "dev", "docs"}
    assert {*names.split(",")} | others == set(known) and not {*names.split(",")} & others
