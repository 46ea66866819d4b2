"""The profile of an iteration for readers: one HTML page, where everything is escaped, and a text for a terminal."""

import json
from pathlib import Path

from diffexplain_fast.measuring.profile.families import FAMILIES
from diffexplain_fast.measuring.profile.memory import WEIGHTS
from diffexplain_fast.measuring.profile.profile import Profile, Share, merge_steps
from diffexplain_fast.report.explanation import load_template
from diffexplain_fast.report.profile_charts import HEIGHT, ROOF_HEIGHT, WIDTH, areas, roof
from diffexplain_fast.storage import write_bytes_atomic

_NAME, _MOST, _LITTLE = 44, 3, 0.05
"""Widest name in the text, most families named beside a part, and the share below which none is."""


def render_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile as one HTML file that needs no network and runs no script, and return the file.

    Args:
        profile: what to show.
        path: the file; its folder is made if it does not exist.

    Raises:
        StorageError: no space or no permission.
    """
    page = load_template("profile.html").render(
        **_view(profile),
        legend=list(enumerate(FAMILIES)),
        steps=[part for part in profile.parts if part.name.startswith("step ")],
        roof=None if profile.roofline is None else roof(profile.roofline),
        roof_height=ROOF_HEIGHT,
        areas=areas(profile.memory.timeline, profile.wall),
        counted=max(profile.memory.timeline.totals, default=0),
        width=WIDTH,
        height=HEIGHT,
        settings=json.dumps(dict(profile.about), indent=1, ensure_ascii=False),
    )
    write_bytes_atomic(path, page.encode(errors="replace"))
    return Path(path)


def profile_text(profile: Profile) -> str:
    """Return a profile as text for a terminal, at most about 100 characters wide."""
    owners = {name: sizes for name, sizes in profile.memory.timeline.owners.items() if name != WEIGHTS}
    most = {f"{owner}, most at once, counted": max(sizes) for owner, sizes in owners.items()}
    return load_template("profile.txt").render(**_view(profile), most=most, short=_short, beside=_beside).rstrip()


def _view(profile: Profile) -> dict[str, object]:
    """What the page and the text both show."""
    sampler = dict(profile.about)["sampler"]
    return {
        "about": profile.about,
        "sampler": sampler,
        "profile": profile,
        "memory": profile.memory,
        "replayed": isinstance(sampler, dict) and sampler.get("cuda_graphs") == "replayed",
        "unit": "kernels" if profile.on_gpu else "operator calls",
        "parts": merge_steps(profile.parts),
        "total": profile.total or 1.0,
    }


def _beside(share: Share) -> str:
    """The families in which most of a part's or kernel's time was spent."""
    spent = sorted(share.families.items(), key=lambda item: -item[1])[:_MOST]
    shown = [(name, seconds) for name, seconds in spent if seconds >= _LITTLE * share.seconds]
    return ", ".join(name if len(share.families) == 1 else f"{name} {1e3 * seconds:.0f}" for name, seconds in shown)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 3]}...{name[-_NAME // 2 :]}"
