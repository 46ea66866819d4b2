"""``diffexplain-fast explain``: explain targets of any classifier."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffexplain_fast.cli import classifiers, options, ranks
from diffexplain_fast.cli.demo import summary
from diffexplain_fast.cli.json_line import print_json
from diffexplain_fast.cli.models import Models
from diffexplain_fast.cli.output import check_folder
from diffexplain_fast.cli.own_files import check_readable
from diffexplain_fast.errors import CorruptFileError, UnsafeFileError
from diffexplain_fast.methods.diffexplainer.options import Options, options_from
from diffexplain_fast.records import Json
from diffexplain_fast.runs.bars import ProgressBars
from diffexplain_fast.targets import Target, as_target, parse_target, told_apart

if TYPE_CHECKING:
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.results.explanation import Explanation

_OUT = Path("explanation")


def explain(
    classifier: classifiers.Name,
    target: options.Targets = None,
    every: options.Every = False,
    pipeline: options.Pipeline = "tinyworld",
    scheduler: options.Scheduler = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html, the explanations and the checkpoints.")] = _OUT,
    prefix: options.Prefix = "",
    n_tokens: Annotated[int, typer.Option(help="Number of tokens to search.")] = Options.n_tokens,
    iterations: Annotated[int, typer.Option(help="Optimisation steps of one attempt.")] = Options.iterations,
    lr: Annotated[float, typer.Option(help="Step size.")] = Options.lr,
    batch: options.Batch = str(Options.images_per_step),
    images: Annotated[int, typer.Option(help="Pictures in the result.")] = Options.n_images,
    candidates: options.Candidates = None,
    budget: options.Budget = None,
    modes: options.Modes = 1,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    seed: options.Seed = 0,
    backend: options.Backend = "auto",
    memory: options.Memory = "auto",
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Explain classes, neurons or sums of them.

    Finds a prompt whose pictures make the classifier answer with the class, and writes a report.

    After an interruption, even by a power cut, the same command continues from the last checkpoint to the same result.

    Started by torchrun or accelerate launch, each target is explained by one of the processes.

    Example: diffexplain-fast explain tinyworld/background fish --out fish
    """
    from diffexplain_fast.report.writing import write_report

    search = {"prefix": prefix, "n_tokens": n_tokens, "iterations": iterations, "lr": lr}
    search |= {"n_images": images, "n_score": max(images, Options.n_score), "budget": budget}
    search |= {"images_per_step": _number(batch), "candidates": _words(candidates)}
    options_from(search)  # options and folders are refused before anything is loaded
    _folders(out, [""])
    search |= {"num_inference_steps": steps, "guidance_scale": guidance, "modes": modes}
    models = Models(pipeline, scheduler, dtype, device)
    loaded = models.classifier(classifier)
    wanted = _folders(out, list(classes := _targets(target, every, loaded.labels)))
    found = []
    with models.explainer(loaded, seed, backend, memory) as explainer:
        for folder, one in _explanations(explainer, wanted, classes, search, out, [classifier, scheduler, dtype]):
            found.append(one)
            print_json(_record(one, folder)) if as_json else print(_summaries(one))
    if ranks.left_to_first():
        return
    report = write_report(found, out / "report.html")
    if not as_json:
        print(f"Open {report}")


def _check_targets(explainer: "Explainer", classes: Mapping[str, int | None]) -> None:
    """Refuse a target that the classifier does not have before any is explained, which may take hours.

    All are asked of one black picture: what names alone do not show, such as a unit that a layer does not have, shows
    there.

    Args:
        explainer: of the classifier.
        classes: the targets and their class indices, see ``_targets``.

    Raises:
        ValueError: a target that means nothing for the classifier; the message names it.
    """
    import torch

    classifier, pipeline = explainer.classifier, explainer.pipeline
    pixels = torch.zeros(1, 3, *pipeline.image_size, device=pipeline.device, dtype=pipeline.dtype)
    classifier.settle(pixels)  # before binding, which the kind of output may refuse
    targets = [as_target(_asked(explainer, classes, text)).bind(classifier) for text in classes]
    devices = [pixels.device] if pixels.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():  # a model may draw random numbers
        response = classifier.respond(pixels, dict.fromkeys(layer for target in targets for layer in target.layers))
        for target in targets:
            target(response)


def _explanations(
    explainer: "Explainer",
    targets: Mapping[str, Path],
    classes: Mapping[str, int | None],
    search: Mapping[str, object],
    out: Path,
    names: list[str | None],
) -> Iterator[tuple[Path, "Explanation"]]:
    """Give the folder and the explanation of every target; of several ranks, only the first one gives any.

    Args:
        explainer: of the classifier.
        targets: with their folders.
        classes: their class indices, see ``_targets``.
        search: options of ``explain``.
        out: folder of the command.
        names: of the classifier, the scheduler and the dtype, as the command line has them.
    """
    from diffexplain_fast.evidence.identity import noise_of, pipeline_identity
    from diffexplain_fast.results.explanation import Explanation

    _check_targets(explainer, classes)
    if not ranks.are_several():
        for text, folder in targets.items():
            yield folder, _explained(explainer, text, folder, classes, search)
        return
    settings: dict[str, Json] = {"names": [*names], "seed": explainer.seed, "search": json.dumps(search)}
    settings["classifier"] = classifiers.identity(str(names[0]), explainer.classifier)
    pipeline = explainer.pipeline
    # The guidance is in the search; any but 1 has unconditional rows.
    settings["pipeline"] = pipeline_identity(pipeline, 0.0, noise=noise_of(pipeline.scheduler))
    run, there = partial(_explained, explainer, classes=classes, search=search), partial(_is_there, explainer, classes)
    places = ranks.divide(run, there, targets, out, settings)
    if ranks.is_first():
        for folder in places.values():
            yield folder, Explanation.load(folder / "explanation")


def _is_there(explainer: "Explainer", classes: Mapping[str, int | None], text: str, folder: Path) -> bool:
    """Return whether a folder holds the explanation of a target."""
    from diffexplain_fast.results.explanation import Explanation

    wanted = as_target(_asked(explainer, classes, text)).bind(explainer.classifier).describe()
    try:
        return Explanation.load(folder / "explanation").target == wanted
    except (OSError, CorruptFileError, UnsafeFileError):
        return False


def _asked(explainer: "Explainer", classes: Mapping[str, int | None], text: str) -> int | str | Target:
    """Return what is asked for by the text of the command, or by an index of all classes."""
    index = classes[text]
    return parse_target(text, explainer.classifier.labels) if index is None else index


def _explained(
    explainer: "Explainer", text: str, folder: Path, classes: Mapping[str, int | None], search: Mapping[str, object]
) -> "Explanation":
    """Return the explanation of one target, saved in its folder; an interrupted one says how to go on."""
    run: Callable[..., Explanation] = explainer.explain  # explain() checks the kind of every option
    target, kept = _asked(explainer, classes, text), folder / "checkpoint"
    try:
        with ProgressBars(text) as bars:
            explanation = run(target, checkpoint=kept, callback=bars, **search)
    except KeyboardInterrupt:
        print(f"the same command continues from the last checkpoint, in {kept}", file=sys.stderr)
        raise
    explanation.save(folder / "explanation")
    return explanation


def _summaries(explanation: "Explanation") -> str:
    """Return a line for an explanation and for every other one of the same target."""
    return "\n".join(map(summary, [explanation, *explanation.others]))


def _folders(out: Path, targets: Sequence[str]) -> dict[str, Path]:
    """Return a folder for every target, checked before any computation: ``out`` itself for a single one."""
    folders = [out] if len(targets) == 1 else [out / name for name in _folder_names(targets)]
    for folder in dict.fromkeys([out, *folders]):
        check_folder(folder, ["report.html"], ["explanation"])
        check_folder(folder / "checkpoint")
    return dict(zip(targets, folders, strict=True))


def _targets(given: Sequence[str] | None, every: bool, labels: Sequence[str] | None) -> dict[str, int | None]:
    """Return the targets as text, each with its class index for ``--all``, None where the text decides.

    A label may mean nothing as text, such as an empty one, or the class of another label.
    """
    from diffexplain_fast.errors import wrong_value

    if every and given:
        raise wrong_value("target", "targets or --all, not both", " ".join(given))
    if every and labels is None:
        raise wrong_value("--all", "a classifier with labels", "none")
    wanted: dict[str, int | None] = dict.fromkeys(() if every else given or ())
    for index, label in enumerate(told_apart(labels or ()) if every else ()):
        wanted[f"{label} ({index})" if label in wanted else label] = index
    if not wanted:
        raise wrong_value("target", "a class, a neuron or a sum of them, or --all", "nothing")
    return wanted


def _folder_names(targets: Sequence[str]) -> list[str]:
    """Return a name of a folder for every target, readable and different."""
    names: list[str] = []
    for text in targets:
        plain = re.sub(r"[^\w.+]+", "-", text).strip("-.")[:60] or "target"
        same = [name for name in names if name == plain or re.fullmatch(re.escape(plain) + r"~\d+", name)]
        names.append(f"{plain}~{len(same) + 1}" if same else plain)
    return names


def _number(text: str) -> int | str:
    """Return the number that a text is, and other text, such as "auto", as it is."""
    return int(text) if re.fullmatch("[+-]?[0-9]{1,9}", text.strip()) else text


def _words(text: str | None) -> list[str] | None:
    """Return the words of ``--candidates``, None where it is not given.

    Raises:
        ValueError: a file that cannot be read.
    """
    from diffexplain_fast.errors import wrong_value

    if text is None:
        return None
    if not text.startswith("@"):
        return [word.strip() for word in text.split(",") if word.strip()]
    path, wanted = Path(text[1:]), "a text file with one word a line"
    check_readable("--candidates", path, wanted)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise wrong_value("--candidates", wanted, f"{path}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _record(explanation: "Explanation", folder: Path) -> dict[str, object]:
    """Return what a program wants to know of an explanation."""
    return {
        "classifier": explanation.settings.get("classifier"),
        "target": explanation.target,
        "label": explanation.label,
        "words": [[word.word for word in token] for token in explanation.words],
        "named": explanation.named,
        "activation": {name: vars(score) for name, score in explanation.activation.items()},
        "others": [[[word.word for word in token] for token in other.words] for other in explanation.others],
        "folder": str(folder / "explanation"),
    }
