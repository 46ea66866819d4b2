"""``diffexplain-fast audit``: which concepts a classifier answers to, class by class."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffexplain_fast.cli import classifiers, options, ranks
from diffexplain_fast.cli.audit_difference import (
    check_meant,
    checked,
    difference,
    print_decisions,
    stop_if_failed,
)
from diffexplain_fast.cli.json_line import audit_record, print_json
from diffexplain_fast.cli.models import Models
from diffexplain_fast.cli.output import check_apart, check_folder
from diffexplain_fast.cli.own_files import check_readable, function_of
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.number_texts import interval_texts, isolated, points_text, share_text
from diffexplain_fast.records import Json
from diffexplain_fast.results.decision import Decision
from diffexplain_fast.runs.bars import ProgressBars
from diffexplain_fast.storage import parse_json
from diffexplain_fast.targets import parse_target

if TYPE_CHECKING:
    from diffexplain_fast.results.audit import Audit
    from diffexplain_fast.results.audit_rows import AuditRow

Targets = Annotated[
    list[str] | None, typer.Argument(help="Classes by label or number, neurons, or sums; all classes by default.")
]
ConceptFile = Annotated[
    Path | None, typer.Option("--concepts", help='File of concepts: lines "background: desert, snow", or free words.')
]
Images = Annotated[Path | None, typer.Option(help="Folder of own pictures, or of one folder for each label.")]
_Interventions = Annotated[
    list[str] | None,
    typer.Option(
        "--intervention",
        help='Function in a file of your own, "my_file.py:watermark", that takes a picture [3, H, W] in [0, 1] and '
        "returns it changed; may be repeated.",
    ),
]
FailOn = Annotated[
    list[str] | None, typer.Option(help='Exit with 3 where this is true, such as "spurious>0.5"; may be repeated.')
]
_OUT, _DIFFERENCE = Path("audit"), Path("audit_difference")
_COLUMNS = ("target", "concept", "effect", "interval", "role", "answered with", "without", "obeyed")
_DIFFERENCES = (
    *("target", "concept", "difference of effects", "interval", "role"),
    *("difference of answered with", "of without", "of obeyed"),
)


_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for report.html and the saved audit.", show_default=str(_OUT)),
]
_DifferenceOut = Annotated[Path, typer.Option("--out", help="Folder for report.html and the saved difference.")]
_First = Annotated[
    Path, typer.Argument(metavar="FIRST", help='Folder of a saved audit, or one that "audit --out" wrote.')
]
_Second = Annotated[Path, typer.Argument(metavar="SECOND", help="Folder of the audit that is subtracted.")]
_Pool = Annotated[Path | None, typer.Option(help="Folder of the pictures; by default one in the user's cache folder.")]
_Weights = Annotated[
    Path | None, typer.Option(help='JSON file of your own distribution: {"background": {"desert": 0.5, "snow": 0.3}}.')
]

_Ray = Annotated[
    str | None,
    typer.Option(
        help='Draw in workers of Ray, one for each GPU: "auto", or the address of a cluster; needs the extra.'
    ),
]
_Redraw = Annotated[
    int, typer.Option(help="How often, at most, a picture is drawn again in which the eye does not see the words.")
]
_Pictures = Annotated[int, typer.Option(help="Pictures of the shared pool, at most; 0 draws none.")]
_MinimalEffect = Annotated[float, typer.Option(help="Effect in logits up to which nothing is a finding.")]
_Explain = Annotated[
    bool,
    typer.Option("--explain", help="Search prompts for every class first, and try what was found in fresh pictures."),
]


def audit(
    classifier: classifiers.Name,
    target: Targets = None,
    pipeline: options.Pipeline = "tinyworld",
    concepts: ConceptFile = None,
    pictures: _Pictures = AuditOptions.pictures,
    minimal_effect: _MinimalEffect = AuditOptions.minimal_effect,
    level: Annotated[float, typer.Option(help="Rate of false findings.")] = AuditOptions.level,
    out: _Out = None,
    images: Images = None,
    intervention: _Interventions = None,
    fail_on: FailOn = None,
    pool: _Pool = None,
    weights: _Weights = None,
    explain: _Explain = False,
    redraw: _Redraw = 0,
    ray: _Ray = None,
    scheduler: options.Scheduler = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    backend: options.Backend = "auto",
    memory: options.SearchMemory = "auto",
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    as_json: options.OneJson = False,
) -> None:
    """Measure which concepts a classifier answers to.

    A randomised trial through the prompt: draws pictures of random captions, asks the classifier about each, and says
    for every class which concepts raise or lower it, with intervals. The pictures are kept for later audits with the
    same pipeline. Interrupted, even by a power cut, the same command goes on where it stopped and ends with the same
    result. Started by torchrun or accelerate launch, the processes draw the pictures together.

    --fail-on takes false_answers, spurious, findings, worst_group, unexplained; then any finding on a clean classifier
    comes at the rate of --level. "audit diff A B" compares two saved audits, such as those of two checkpoints; see
    "audit diff --help".

    Example: diffexplain-fast audit tinyworld/background
    """
    if classifier == "diff":  # after options; as the first word it is the command below
        return _compare([*map(Path, target or ())], out or _DIFFERENCE, fail_on, as_json)
    check_meant(classifier, target or ())
    _check_given(concepts, images)
    shares = _shares(weights)
    conditions, changes = checked(fail_on, images is not None), _interventions(intervention)
    out = _checked_out(out or _OUT, images)
    models = Models(pipeline, scheduler, dtype, device)
    explained = models.explainer(models.classifier(classifier), seed, backend, memory)
    with explained as explainer, ProgressBars(classifier) as bars:
        found = explainer.audit(
            [parse_target(text, explainer.classifier.labels) for text in target] if target else "all",
            *(concepts, pictures, explain, minimal_effect, level, images, changes),
            control="family" if conditions else "fdr",
            pool=pool,
            weights=shares,
            redraw=redraw,
            ray=None if ray is None else models.workers(ray),
            num_inference_steps=steps,
            guidance_scale=guidance,
            callback=bars,
        )
    _finish(found, out, conditions, as_json)


def diff(
    first: _First,
    second: _Second,
    out: _DifferenceOut = _DIFFERENCE,
    fail_on: FailOn = None,
    as_json: options.OneJson = False,
) -> None:
    """Compare two saved audits, such as those of two checkpoints.

    Effects are those of the first audit minus those of the second. A concept is "more" or "less" where the first is
    shown to answer to it more or less than the second, and "undecided" where the pictures do not suffice.

    --fail-on takes false_answers, spurious, findings, of what the first answers to more.

    Example: diffexplain-fast audit diff after before
    """
    _compare((first, second), out, fail_on, as_json)


def _compare(folders: Sequence[Path], out: Path, fail_on: Sequence[str] | None, as_json: bool) -> None:
    conditions, out = checked(fail_on, False, difference=True), _checked_out(out, None)
    _finish(difference(folders, out), out, conditions, as_json)


def _check_given(concepts: Path | None, images: Path | None) -> None:
    """Name a file or folder that is missing before any model is loaded."""
    check_readable("--concepts", concepts, "a file of concepts")
    if images is not None and not images.is_dir():
        raise wrong_value("--images", "a folder of pictures, or of one folder for each label", f"{str(images)!r}")


def _checked_out(out: Path, images: Path | None) -> Path:
    """Return the folder of the results, in which nothing else, and no own picture, is replaced."""
    check_folder(out, ["report.html"], ["audit"])
    check_apart([out / "audit"], "--images", [images] if images else [])
    return out


def _finish(found: "Audit", out: Path, conditions: Sequence[str], as_json: bool) -> None:
    """Save an audit with its decisions, print it, and stop where a condition is true; of several ranks, the first."""
    if ranks.left_to_first():
        return
    decisions: list[Decision] = []
    try:
        decisions = found.decide(conditions) if conditions else []
    finally:  # a condition that this audit cannot answer loses nothing
        found.settings["decisions"] = [asdict(one) for one in decisions]
        found.save(out / "audit")
        report = found.report(out / "report.html")
    if as_json:
        print_json(audit_record(found, decisions, out / "audit", report))
    else:
        _print(found)
        print(f"Open {report}; all rows: {out / 'audit' / 'audit.json'}")
        print_decisions(decisions)
    stop_if_failed(decisions)


def _interventions(names: Sequence[str] | None) -> dict[str, Callable[..., object]] | None:
    """Return functions of the user's own files by their names, None without any."""
    found: dict[str, Callable[..., object]] = {}
    for name in names or ():
        label = name.rpartition(":")[2]
        if label in found:
            raise wrong_value("--intervention", "functions of different names", f"{label} twice")
        found[label] = function_of("--intervention", name)
    return found or None


def _shares(path: Path | None) -> Json:
    """Return the distribution of concepts in a file of ``--weights``, None without one."""
    if path is None:
        return None
    check_readable("--weights", path, "a JSON file")
    shares = parse_json(path.read_bytes(), path)
    if shares is None:
        raise wrong_value("--weights", "shares of values by group", f"null in {path}")
    return shares


def _print(audit: "Audit") -> None:
    """Print what is known of the pictures, the findings, and the verdicts."""
    effective = audit.settings.get("effective_pictures")  # a comparison of two audits has none
    if effective is not None:
        print(f"Re-weighted to your distribution: worth {effective:.0f} equal pictures.")
    print(findings_table(audit))
    if audit.findings and (outcome := audit.outcome_without_verdict):
        print(outcome)
    for verdict in audit.verdicts.values():
        print(verdict.sentence)
    for feature in audit.found:
        print(f"{feature.target}, found by a search: {feature.sentence}.")


def findings_table(audit: "Audit") -> str:
    """Return the findings of an audit as lines of text, or what is known without any.

    Args:
        audit: what was measured; of a difference of two, shares are differences, in points.
    """
    if not audit.findings:
        return audit.outcome
    compared = "difference" in audit.settings
    lines = [_DIFFERENCES if compared else _COLUMNS, *(_cells(row, compared) for row in audit.findings)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(isolated(cell.ljust(width)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(row: "AuditRow", compared: bool) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return points_text(value) if compared else share_text(value).replace(" %", "%")

    effect, interval = interval_texts(row.effect, row.low, row.high, signs="")
    shares = (share(row.answered_with), share(row.answered_without), share(row.obeyed))
    role = f"{row.role} (its words carry something else)" if row.words_disagree else row.role
    return (row.target, row.concept, effect, interval, role, *shares)
