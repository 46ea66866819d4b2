"""How two audits differ, row by row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.results.audit_rows import OWN_EYE, AuditRow
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import Estimated, Judged, Rule, estimate, judge
from diffexplain_fast.stats.decisions import Control
from diffexplain_fast.stats.effects import Effects, interval
from diffexplain_fast.stats.shares import exact_shares
from diffexplain_fast.stats.told import Told, minus, told
from diffexplain_fast.targets.outputs import SOFTMAX, UNITS

_SAME = ("pool", "concepts", "phrasing", "seed", "redraw")
"""Settings of two audits that used the same pictures."""
_CONTROLS: tuple[Control, ...] = ("fdr", "any", "family")
"""What audits control, the weakest first."""


@dataclass(frozen=True)
class Side:
    """One of two audits: its rows, the arrays of its trial, and its settings."""

    rows: Sequence[AuditRow]
    outcomes: Mapping[str, np.ndarray]
    settings: Mapping[str, Json]

    @property
    def of_trial(self) -> "Side":
        """The same without rows of interventions, which no trial has measured."""
        names = {*self.concepts}
        trial = [row for row in self.rows if row.concept in names]
        return replace(self, rows=trial)

    @property
    def eye(self) -> tuple[str, str] | None:
        """Which eye it was: name and fingerprint; None without an eye, or for one of the user's own without any."""
        name, fingerprint = (self.settings.get(key) for key in ("eye", "eye_fingerprint"))
        return None if name is None or (name == OWN_EYE and not fingerprint) else (str(name), str(fingerprint or ""))

    @property
    def asked(self) -> Asked:
        """What the captions asked for."""
        levels = tuple(int(count) for count in self.outcomes["levels"])
        return Asked(self.outcomes["design"], levels, int(self.outcomes["groups"][0]), self.outcomes.get("weights"))

    @property
    def concepts(self) -> list[str]:
        """The names of the concepts, in the order of the cells."""
        asked = self.settings["concepts"]
        grouped = [f"{group}:{value}" for group, values in asked["groups"].items() for value in values]
        return [*grouped, *(f"word:{word}" for word in asked["words"])]

    @property
    def showing(self) -> set[str]:
        """Groups in which rows hold the effect of showing a value, not that of asking for it."""
        redrawn = bool(self.settings.get("redraw"))  # there the effect of asking is that of the first draws
        told = (
            row.concept.partition(":")[0]
            for row in self.of_trial.rows
            if row.words_p is not None or row.words_disagree or (not redrawn and abs(row.effect - row.asked) > 0)
        )
        return {*self.settings.get("showing", ()), *told}

    @property
    def told(self) -> set[str]:
        """Groups of which the arrays say what the pictures show."""
        if "shown" not in self.outcomes:
            return set()
        known = np.isfinite(self.outcomes["shown"]).all(0)
        return {name.partition(":")[0] for name, one in zip(self.concepts, known, strict=True) if one}

    def shown(self, groups: Collection[str]) -> np.ndarray:
        """Return what the pictures show in some groups, [pictures, concepts]; NaN in the others, or if not known."""
        kept = [name.partition(":")[0] in groups for name in self.concepts]
        shown = self.outcomes.get("shown", np.full(self.outcomes["seen"].shape, np.nan))
        return np.where(kept, shown, np.nan)

    def own(self, target: str) -> int | None:
        """Return the place of a target's own object among the concepts, None where there is none."""
        own = (row.concept for row in self.rows if row.target == target and row.declared_by == "label")
        return next((self.concepts.index(name) for name in own), None)

    def columns(self, targets: Sequence[str]) -> list[int]:
        """Return the places of targets in the arrays."""
        names = list(self.settings["targets"])
        return [names.index(target) for target in targets]


def asking_only(ours: Side, theirs: Side) -> list[str]:
    """Return the groups whose differences are those of asking, although an audit reports effects of showing in them.

    These are groups of audits without what their pictures show, such as those of earlier releases, of audits by
    different eyes, by own eyes that are not known to be the same, or one without an eye, and groups in which words
    disagree.

    Args:
        ours: the first audit.
        theirs: the second audit.
    """
    return sorted((ours.showing | theirs.showing) - _told_groups(ours, theirs))


def strictest(ours: Side, theirs: Side) -> JsonObject:
    """Return what decides whether a row of a difference is a finding: of each setting the stricter one of two audits.

    That is the larger minimal effect, the smaller level, and the stronger control of false findings.
    """
    both = (ours.settings, theirs.settings)
    control = max(_CONTROLS.index(one.get("control") or "fdr") for one in both)
    least, level = max(one["minimal_effect"] for one in both), min(one["level"] for one in both)
    return {"minimal_effect": least, "level": level, "control": _CONTROLS[control]}


def _told_groups(ours: Side, theirs: Side) -> set[str]:
    """Return the groups whose differences are those of showing."""
    if not _same_eye(ours, theirs) or any("seen" not in side.outcomes for side in (ours, theirs)):
        return set()
    told = ours.told | theirs.told
    if not _paired(ours, theirs):
        told -= (ours.showing - ours.told) | (theirs.showing - theirs.told)
    return told - {row.concept.partition(":")[0] for side in (ours, theirs) for row in side.rows if row.words_disagree}


def _paired(ours: Side, theirs: Side) -> bool:
    same = all(ours.settings.get(name) == theirs.settings.get(name) for name in _SAME)
    return same and (not ours.settings.get("redraw") or _same_eye(ours, theirs))  # an eye says what is drawn again


def _same_eye(ours: Side, theirs: Side) -> bool:
    """Return whether one eye is known to have seen for both."""
    return ours.eye is not None and ours.eye == theirs.eye


def row_differences(ours: Side, theirs: Side) -> list[AuditRow]:
    """Return the differences of all rows that both audits have, the first minus the second.

    Effects are those of showing where the audits report such effects and say what their pictures show, else those of
    asking, see ``asking_only``. Where both used the same pictures the difference of the answers to each picture is
    regressed, so that what the two share cancels; else the errors of both add up. Rows are findings by the stricter
    settings of the two, see ``strictest``.

    Args:
        ours: the first audit.
        theirs: the second audit, of the same concepts.

    Raises:
        ValueError: the two have other concepts, share no target, or hold no trial: a difference, or ``pictures=0``.
    """
    for side in (ours, theirs):
        if "values" not in side.outcomes:
            raise wrong_value("other", "two audits of generated pictures", "one without a trial, or a difference")
    ours, theirs = ours.of_trial, theirs.of_trial
    if ours.settings["concepts"] != theirs.settings["concepts"]:
        raise wrong_value("other", "an audit of the same concepts", "other concepts")
    # Audits of release 0.1 do not say their kind of output.
    units = [UNITS.get(str(side.settings.get("output")), UNITS[SOFTMAX]) for side in (ours, theirs)]
    if units[0] != units[1]:
        raise wrong_value("other", f"an audit whose effects are in {units[0]}", units[1])
    if ours.settings.get("weights") != theirs.settings.get("weights"):
        raise wrong_value("other", "an audit with the same weights", "other weights")
    targets = [name for name in ours.settings["targets"] if name in theirs.settings["targets"]]
    if not targets:
        raise wrong_value("other", "an audit that shares a target", "none")
    strict = strictest(ours, theirs)
    rule = Rule((), strict["minimal_effect"], strict["level"], strict["control"], ours.settings["seed"])
    judged = _judged(ours, theirs, targets, rule)
    second = {(row.target, row.concept): row for row in theirs.rows}
    rows = [row for target in targets for row in ours.rows if row.target == target]
    names, rows = ours.concepts, [row for row in rows if (row.target, row.concept) in second]
    if not rows:
        raise wrong_value("other", "an audit that shares a row", "none")
    return [
        _difference(row, second[row.target, row.concept], judged, (names.index(row.concept), targets.index(row.target)))
        for row in rows
    ]


def _judged(ours: Side, theirs: Side, targets: Sequence[str], rule: Rule) -> Judged:
    # Where two classifiers hardly differ, a difference is as sure as the answers of both are, which may be large.
    size = np.max([np.abs(side.outcomes["values"][:, side.columns(targets)]).max(0) for side in (ours, theirs)], 0)
    found = _differences(ours, theirs, targets, rule.level).beside_rounding_of(size)
    judged = judge(ours.asked, Estimated(found.effects, None), rule, rule.level)
    groups, places = _told_groups(ours, theirs), ours.asked.places
    here = np.array([name.partition(":")[0] in groups for name in ours.concepts])[:, None]
    low, high = (np.where(here, end[places], old) for end, old in ((found.low, judged.low), (found.high, judged.high)))
    chosen = judged.found != 0  # the interval of a finding is that of a choice, in which one of showing may be wider
    wider = np.minimum(low, judged.low), np.maximum(high, judged.high)
    low, high = (np.where(chosen, new, old) for new, old in zip(wider, (low, high), strict=True))
    return replace(judged, low=low, high=high)


def _differences(ours: Side, theirs: Side, targets: Sequence[str], level: float) -> Told:
    groups = _told_groups(ours, theirs)
    first, second = (side.outcomes["values"][:, side.columns(targets)] for side in (ours, theirs))
    own = [ours.own(target) for target in targets]
    pictures = min(len(first), len(second))
    if _paired(ours, theirs):
        asked, values = ours.asked.part(slice(pictures)), first[:pictures] - second[:pictures]
        asking = estimate(asked, values, own, pictures).effects
        one, two = (side.shown(groups)[:pictures] if groups else None for side in (ours, theirs))
        shown = None if one is None or two is None else np.where(np.isfinite(one), one, two)
        return _told(asked, ours, shown, values, own, asking, level)
    fewer = min(ours.asked, theirs.asked, key=lambda asked: len(asked.design))  # decides for both alike
    sides = []
    for side, values in ((ours, first), (theirs, second)):
        asking = estimate(side.asked, values, own, len(values), fewer).effects
        sides.append(_told(side.asked, side, side.shown(groups) if groups else None, values, own, asking, level))
    return minus(*sides)


def _told(
    asked: Asked,
    side: Side,
    shown: np.ndarray | None,
    values: np.ndarray,
    own: Sequence[int | None],
    asking: Effects,
    level: float,
) -> Told:
    if shown is None:
        return Told(asking, *interval(asking.estimate, asking.error, asking.freedom, level))
    return told(asked, shown, side.outcomes["seen"][: len(values)], values, own, asking, level)


def _difference(ours: AuditRow, theirs: AuditRow, judged: Judged, at: tuple[int, int]) -> AuditRow:
    found, points = int(judged.found[at]), _points(ours, theirs)
    bounded = not (np.isinf(judged.low[at]) or np.isinf(judged.high[at]))
    return replace(
        ours,
        effect=float(judged.estimate[at]),
        low=float(judged.low[at]),
        high=float(judged.high[at]),
        p=float(judged.p[at]),
        adjusted_p=float(judged.adjusted[at]),
        finding=bool(found),
        role="more" if found > 0 else "less" if found < 0 else str(judged.names[at]) if bounded else "not drawable",
        asked=ours.asked - theirs.asked,
        obeyed=_of_shares(ours.obeyed, theirs.obeyed),
        answered_with=_of_shares(ours.answered_with, theirs.answered_with),
        answered_without=_of_shares(ours.answered_without, theirs.answered_without),
        accuracy_with=_of_shares(ours.accuracy_with, theirs.accuracy_with),
        accuracy_without=_of_shares(ours.accuracy_without, theirs.accuracy_without),
        tipping_point=None,
        pictures=min(ours.pictures, theirs.pictures),
        points_low=None if points is None else points[0],
        points_high=None if points is None else points[1],
        own_effect=_minus(ours.own_effect, theirs.own_effect),
        own_low=None,
        own_high=None,
        other_effect=_minus(ours.other_effect, theirs.other_effect),
        other_low=None,
        other_high=None,
        words_p=None,
        words_disagree=False,
    )


def _points(ours: AuditRow, theirs: AuditRow) -> tuple[float, float] | None:
    """Return the interval of the difference of two rises of answers, None where an audit has no interval of its own.

    Where both have asked about the same pictures it is wider than need be.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
        27 (2008), eq. 3.
    """
    one, two = _rise(ours), _rise(theirs)
    if one is None or two is None:
        return None
    difference = one[1] - two[1]
    down = float(np.hypot(one[1] - one[0], two[2] - two[1]))
    return difference - down, difference + float(np.hypot(one[2] - one[1], two[1] - two[0]))


def _rise(row: AuditRow) -> tuple[float, float, float] | None:
    """Return lower end, estimate and upper end of how much more often a target is answered with a concept."""
    given = row.points_low, row.answered_with, row.answered_without, row.points_high
    if None in given:
        return None
    low, with_it, without, high = map(float, given)  # type: ignore[arg-type]
    return low, with_it - without, high


def _of_shares(ours: float | None, theirs: float | None) -> float | None:
    found = _minus(ours, theirs)
    return None if found is None else float(exact_shares(found))


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs
