"""One HTML page from the profile of an iteration: no script, no network, everything escaped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from diffexplain_fast.measuring.profile.families import FAMILIES
from diffexplain_fast.measuring.profile.profile import Profile, Share, merge_steps
from diffexplain_fast.report.page import load_template
from diffexplain_fast.report.profile_charts import HEIGHT, ROOF_HEIGHT, WIDTH, areas, curve_points, describe, roof
from diffexplain_fast.storage import write_bytes_atomic


class Piece(NamedTuple):
    """A piece of a stacked bar: number of its colour, width in percent of the bar's track, what it says on pointing."""

    colour: int
    width: float
    text: str


class Row(NamedTuple):
    """A line of a table with a stacked bar; ``share`` is of everything."""

    name: str
    milliseconds: float
    share: float
    launches: int
    pieces: list[Piece]


class ByteRow(NamedTuple):
    """A line of the table of bytes; ``width`` is percent of the largest."""

    name: str
    mebibytes: float
    width: float


def render_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile as one HTML file that needs no network, and return the file.

    Args:
        profile: what to show.
        path: the file; its folder is made if it does not exist.

    Raises:
        StorageError: no space or no permission.
    """
    memory, sampler = profile.memory, profile.about["sampler"]
    page = load_template("profile.html").render(
        title=f"One iteration of {profile.about['pipeline']} with {profile.about['classifier']}",
        profile=profile,
        sampler=sampler,
        unit="kernels" if profile.on_gpu else "operator calls",
        legend=list(enumerate(FAMILIES)),
        whole=_pieces({share.name: share.seconds for share in profile.families}, profile.total),
        parts=_rows(merge_steps(profile.parts), profile),
        steps=_rows([part for part in profile.parts if part.name.startswith("step ")], profile),
        families=_rows([replace(share, families={share.name: share.seconds}) for share in profile.families], profile),
        kernels=_rows(profile.kernels, profile),
        roofline=profile.roofline,
        roof=None if profile.roofline is None else roof(profile.roofline),
        describe=describe,
        roof_height=ROOF_HEIGHT,
        owners=_byte_rows(memory.owners),
        peak=memory.peak / 2**20,
        predicted=None if memory.predicted is None else memory.predicted / 2**20,
        areas=areas(memory.timeline, profile.wall),
        counted=max(memory.timeline.totals, default=0) / 2**20,
        reserved=None if memory.reserved is None else memory.reserved / 2**20,
        curve=curve_points(memory.curve, profile.wall),
        most=max((size for _, size in memory.curve), default=0) / 2**20,
        width=WIDTH,
        height=HEIGHT,
        settings=json.dumps(dict(profile.about), indent=1, ensure_ascii=False),
    )
    write_bytes_atomic(path, page.encode(errors="replace"))
    return Path(path)


def _pieces(seconds: Mapping[str, float], whole: float) -> list[Piece]:
    """Return pieces in the order of the families, their widths in percent of ``whole``."""
    return [
        Piece(i, round(100 * seconds[name] / (whole or 1.0), 3), f"{name}: {1e3 * seconds[name]:.1f} ms")
        for i, name in enumerate(FAMILIES)
        if seconds.get(name, 0.0) > 0
    ]


def _rows(shares: Sequence[Share], profile: Profile) -> list[Row]:
    """Return rows whose longest bar fills the track."""
    longest = max((share.seconds for share in shares), default=0.0)
    total = profile.total or 1.0
    return [
        Row(it.name, 1e3 * it.seconds, it.seconds / total, it.launches, _pieces(it.families, longest)) for it in shares
    ]


def _byte_rows(owners: Mapping[str, int]) -> list[ByteRow]:
    most = max(owners.values(), default=0) or 1
    return [ByteRow(name, size / 2**20, round(100 * size / most, 2)) for name, size in owners.items()]
