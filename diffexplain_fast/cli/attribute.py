"""``diffexplain-fast attribute``: what semantics do to a classifier's answer on the user's own pictures."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from diffexplain_fast.cli import classifiers, options, ranks
from diffexplain_fast.cli.json_line import attribution_record, print_json
from diffexplain_fast.cli.models import Models
from diffexplain_fast.cli.output import check_folder
from diffexplain_fast.cli.own_files import check_readable
from diffexplain_fast.cli.saved_audits import saved_audit
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.number_texts import isolated
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.effects import note_of, said_of
from diffexplain_fast.runs.bars import ProgressBars
from diffexplain_fast.targets import parse_target, shown_target

_OUT = Path("attribution")
_SHOWN = 10
_AUDIT = 'Folder of a saved audit, or one that "audit --out" wrote: what it found is edited, and compared.'


def attribute(
    classifier: classifiers.Name,
    target: Annotated[str, typer.Argument(help='A class by label, else by number, or a neuron as "layer:unit".')],
    images: Annotated[list[Path], typer.Argument(help="Pictures, of any size.")],
    pipeline: options.Pipeline = "tinyworld",
    scheduler: options.Scheduler = None,
    taxonomy: Annotated[Path | None, typer.Option(help="JSON of a taxonomy; by default the pipeline's own.")] = None,
    audit: Annotated[Path | None, typer.Option(help=_AUDIT)] = None,
    editor: Annotated[str, typer.Option(help='"auto", "swap", "inpaint" or "guide".')] = "auto",
    seeds: Annotated[int, typer.Option(help="Edits of each picture and concept.")] = 1,
    beam_width: Annotated[int, typer.Option(help="Its square is the most pairs measured on each picture.")] = 4,
    budget: Annotated[
        str | None,
        typer.Option(help='Limit of all edits: rows of the denoiser as 2000 or "2000 rows", or a time as "20 s".'),
    ] = None,
    caption: Annotated[list[str] | None, typer.Option(help="One for each picture, in order.")] = None,
    gradcam: Annotated[bool, typer.Option("--gradcam", help="Show Grad-CAM of each picture; needs captum.")] = False,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for report.html, the result, and what is done.")] = _OUT,
    backend: options.Backend = "auto",
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    as_json: options.OneJson = False,
) -> None:
    """Edit your pictures, and measure what each edit changes.

    Every edit is checked by a model that is not the classifier, and the classifier answers before and after. After an
    interruption, even by a power cut, the same command continues from what is done to the same result.

    Example: diffexplain-fast attribute tinyworld/background fish fish.png
    """
    check_folder(out, ["report.html"], ["attribution"])
    check_folder(kept := out / "checkpoint")
    concepts = _concepts(taxonomy, audit)
    pictures, models = [_picture(path) for path in images], Models(pipeline, scheduler, dtype, device)
    with models.explainer(models.classifier(classifier), seed, backend) as explainer, ProgressBars(target) as bars:
        try:
            result = explainer.attribute(
                pictures,
                parse_target(target, explainer.classifier.labels),
                taxonomy=concepts,
                editor=editor,
                seeds=seeds,
                beam_width=beam_width,
                budget=budget,
                captions=caption or None,
                checkpoint=kept,
                gradcam=gradcam,
                callback=bars,
            )
        except KeyboardInterrupt:
            print(f"the same command continues from what is done, in {kept}", file=sys.stderr)
            raise
    if ranks.left_to_first():
        return
    _finish(result, out, as_json)


def _concepts(taxonomy: Path | None, audit: Path | None) -> Path | Audit | None:
    """Return what is edited: a file, what an audit has found, or None for the pipeline's own."""
    check_readable("--taxonomy", taxonomy, "a JSON file")
    if audit is None:
        return taxonomy
    if taxonomy is not None:
        raise wrong_value("--audit", "no --taxonomy beside it, because the audit says what is edited", str(taxonomy))
    return saved_audit("--audit", audit)


def _finish(result: Attribution, out: Path, as_json: bool) -> None:
    """Save an attribution with its page, and print it."""
    result.save(out / "attribution")
    report = result.report(out / "report.html")
    if as_json:
        print_json(attribution_record(result, out / "attribution", report))
    else:
        print(f"{summary(result)}\nOpen {report}")


def summary(result: Attribution) -> str:
    """Return the strongest effects and the counterfactuals as lines of text.

    Args:
        result: the attribution.
    """
    name = shown_target(result.target, result.label)
    lines = [f"{isolated(name)}: {len(result.effects)} concepts, {result.denoiser_rows} denoiser rows"]
    for effect in result.effects[:_SHOWN]:
        said, interval = said_of(effect)
        lines.append(f"  {isolated(f'{effect.concept:28}')} {said:>7}  {interval}{note_of(effect)}")
    if len(result.effects) > _SHOWN:
        lines.append(f"  ... and {len(result.effects) - _SHOWN} concepts more")
    for i, flip in enumerate(result.counterfactuals, start=1):
        if flip is not None and flip.flipped:
            lines.append(f"  picture {i}: {flip.before} becomes {flip.after} with {', '.join(flip.changes)}")
    lines += [] if result.audited is None else [f"  {line}" for line in result.audited.sentences]
    return "\n".join([*lines, *filter(None, [result.not_compared, result.unmeasured])])


def _picture(path: Path) -> Image.Image:
    wanted = "files of pictures"
    check_readable("images", path, wanted)
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise wrong_value("images", wanted, f"{path}: {error}") from error
