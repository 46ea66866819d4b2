"""An explanation as a value, and its files: JSON, safetensors, PNG, and a manifest of sha256."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, get_type_hints

import torch
from PIL import Image

from diffexplain_fast.errors import CorruptFileError, describe, wrong_type
from diffexplain_fast.given_files import given_path
from diffexplain_fast.records import (
    NEWER,
    Count,
    JsonObject,
    Magnitude,
    Norm,
    Number,
    Probability,
    Range,
    Share,
    as_json,
    read_as,
)
from diffexplain_fast.result_folder import read_folder, write_folder
from diffexplain_fast.results.drawn import Drawn
from diffexplain_fast.results.images import png_bytes, read_png
from diffexplain_fast.results.named import Named
from diffexplain_fast.results.pictures import Picture, picture_records, read_pictures
from diffexplain_fast.results.told_settings import ToldSettings
from diffexplain_fast.results.truth import Truth, checked_truth
from diffexplain_fast.storage import (
    MANIFEST,
    parse_json,
    parse_tensors,
    save_tensors_atomic,
    write_bytes_atomic,
    write_json_atomic,
    write_manifest,
)

_RECORD, _TENSORS, _FORMAT = "explanation.json", "prompt_embeds.safetensors", 1
_NEW = ("output", "reached", "named")
"""Fields that files of earlier versions lack; they are written only if they differ from their default."""


@dataclass
class ActivationScore:
    """The classifier's response to the images of one prompt.

    Attributes:
        n: number of images.
        rate: share recognised as the target class (as the argmax, or with a probability above one half for independent
            classes), None for a target that is not a class, and for a regression.
        interval: 95 % interval of the rate (Wilson's), or for a regression of the mean (Student's, if n > 1) in units
            of the output.
        mean_logit: mean target score; for a target with a class the mean of the class's logit (log-odds for a sigmoid,
            logarithm or log-odds for probabilities), for an output of a regression its mean.
        mean_probability: mean probability of the target class.
        mean_score: mean of the target that was optimised, such as a sum; None for a class or an output of a regression
            by itself, and in files of earlier versions.
    """

    n: Count
    rate: Share | None
    interval: tuple[Number, Number] | None
    mean_logit: Number
    mean_probability: Probability | None
    mean_score: Number | None = field(default=None, metadata=NEWER)

    @property
    def mean_target(self) -> float:
        """The mean of the target: of a class by itself its logit, of an output of a regression the output."""
        return self.mean_logit if self.mean_score is None else self.mean_score


@dataclass
class Word:
    """A vocabulary word near a soft token, with the cosine similarity of their embeddings."""

    word: str
    similarity: Number


@dataclass
class Iteration:
    """One optimisation step: loss, mean target logit, norm of the gradient before normalisation, wall-clock seconds.

    The norm is 0 if all pictures were already convincing, so that no gradient was computed, and if the gradient itself
    was zero; ``settings["found"]["steps_convinced"]`` counts the former, and
    ``["attempt_convinced"]`` those of the attempt that was the best, whose number from 0 is in ``["attempt"]``.
    """

    iteration: Count
    loss: Number
    logit: Number
    gradient_norm: Norm
    seconds: Magnitude


@dataclass(eq=False, repr=False)
class Explanation(Drawn):
    """The pictures and words to which a target of a classifier responds, with numbers.

    Attributes:
        target: description of the target.
        label: name of the target class, None if there is none.
        images: pictures from held-out start latents.
        prompt_embeds: the soft tokens, [n_tokens, d], on the CPU.
        activation: scores by name: "train", "held_out" and, for a class, "class_name" (a prompt of only its name).
        words: for each soft token its nearest vocabulary words, the nearest first.
        history: one entry per iteration.
        settings: everything needed to repeat the run, as JSON values: tuples become lists, and paths text.
        truth: ``{"attributes": [{"attribute", "effect", "interval", "role"}]}`` if it is known, otherwise None; the
            last two keys are optional. Stored as JSON values.
        output: meaning of the classifier's numbers: "softmax", "sigmoid", "regression", "probabilities" or "independent
            probabilities".
        reached: for an output of a regression, True if its mean over unseen draws is beyond the 95th percentile of the
            pictures of its name, in the direction of the target; None for other targets, and without a name.
        named: words whose own pictures convince as those of the prompt do, and what was measured of them, or what came
            nearest where there are no such words; None where the prompt was found by words or nobody tried to name it.
        others: further explanations of the same target, where several were asked for.
        pictures: pictures with the classifier's answer to each, by group: "held_out" (those of ``images``),
            "class_name" (of only the class name, from the same start noise) and "failures" (the first further pictures
            of unseen start noise that are not recognised); empty in files of earlier versions.

    Raises:
        TypeError: settings or a truth with a value that JSON does not have.
        ValueError: a truth whose attributes have another structure.
    """

    target: str
    label: str | None
    images: list[Image.Image]
    prompt_embeds: torch.Tensor
    activation: dict[str, ActivationScore]
    words: list[list[Word]]
    history: list[Iteration]
    settings: JsonObject
    truth: JsonObject | None = None
    output: str = "softmax"
    reached: bool | None = None
    named: Named | None = None
    others: "list[Explanation]" = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            raise wrong_type("settings", "a dict", self.settings)
        self.settings = as_json(self.settings, "settings")
        self.truth = checked_truth(self.truth, "truth")

    def save(self, folder: str | Path) -> Path:
        """Write the explanation into a folder, which appears whole or not at all, also while others read or write it.

        Args:
            folder: a new or empty folder, or a saved explanation, which is replaced; or a link to one.

        Returns:
            The folder.

        Raises:
            TypeError: a folder that is no path; settings or a truth that were changed to a value that JSON has not.
            ValueError: the folder holds anything else, or is a broken link; a truth that was changed to another
                structure.
            StorageError: no space, no permission, or other processes keep saving there; an explanation saved there
                before is intact.
        """
        return write_folder(given_path("folder", folder), self._write)

    def _write(self, folder: Path) -> None:
        names = [f"images/{i:03d}.png" for i in range(len(self.images))]
        for name, image in zip(names, self.images, strict=True):
            write_bytes_atomic(folder / name, png_bytes(image))
        written = {id(image): name for name, image in zip(names, self.images, strict=True)}

        def name_of(image: Image.Image, name: str) -> str:
            if id(image) not in written:
                write_bytes_atomic(folder / name, png_bytes(image))
                written[id(image)] = name
            return written[id(image)]

        save_tensors_atomic(folder / _TENSORS, {"prompt_embeds": self.prompt_embeds.detach().cpu().contiguous()})
        record = {
            "format": _FORMAT,
            "target": self.target,
            "label": self.label,
            "images": names,
            "activation": {name: asdict(score) for name, score in self.activation.items()},
            "words": [[asdict(word) for word in token] for token in self.words],
            "history": [asdict(iteration) for iteration in self.history],
            "settings": self.settings,
            "truth": checked_truth(self.truth, "truth"),
        }
        record |= {name: getattr(self, name) for name in _NEW if getattr(self, name) != getattr(type(self), name)}
        record |= {"pictures": picture_records(self.pictures, name_of)} if self.pictures else {}
        if self.others:
            record["others"] = len(self.others)
        for place, other in zip(self._places(len(self.others)), self.others, strict=True):
            other._write(folder / place)
        write_json_atomic(folder / _RECORD, as_json(record, "explanation"))
        write_manifest(folder)

    @staticmethod
    def _places(count: int) -> list[str]:
        return [f"others/{i:03d}" for i in range(count)]

    @classmethod
    def load(cls, folder: str | Path) -> "Explanation":
        """Read a saved explanation, without running code from it or reading files outside of it.

        Args:
            folder: folder that ``save`` wrote.

        Returns:
            The explanation.

        Raises:
            TypeError: a folder that is no path.
            CorruptFileError: a file is missing, damaged, or of another structure; the message names the file.
            UnsafeFileError: a recorded path leaves the folder.
        """
        place = given_path("folder", folder)
        return cls._read(place, read_folder(place))

    @classmethod
    def _read(cls, folder: Path, files: Mapping[str, bytes]) -> "Explanation":
        path = folder / _RECORD
        for name in (_RECORD, _TENSORS):
            if name not in files:
                raise CorruptFileError(describe(str(folder / MANIFEST), f"an entry for {name}", "none"))
        try:
            record = read_as(JsonObject, parse_json(files[_RECORD], path), str(path))
            if (recorded_format := record.pop("format")) != _FORMAT:
                raise CorruptFileError(describe(str(path), f"format {_FORMAT}", recorded_format))
            count = read_as(Annotated[int, Range(0, len(files))], record.pop("others", 0), f"{path}, others")
            places = cls._places(count)
            inside = [
                {name.removeprefix(f"{place}/"): data for name, data in files.items() if name.startswith(f"{place}/")}
                for place in places
            ]
            others = [cls._read(folder / place, own) for place, own in zip(places, inside, strict=True)]
            for name, kind in (get_type_hints(cls, include_extras=True) | {"truth": Truth | None}).items():
                apart = name in ("images", "prompt_embeds", "pictures", "others")
                if not apart and (name in record or name not in _NEW):
                    record[name] = read_as(kind, record[name], f"{path}, {name}")
            read_as(ToldSettings, record["settings"], f"{path}, settings")
            read = cache(lambda name: read_png(folder, name, files))
            record["images"] = [read(name) for name in read_as(list[str], record["images"], f"{path}, images")]
            record["pictures"] = read_pictures(record.get("pictures", {}), read, f"{path}, pictures")
            for name, score in record["activation"].items():
                _check_rate(score, f"{path}, activation, {name}")
            record["prompt_embeds"] = _read_soft(files[_TENSORS], folder / _TENSORS)
            return cls(**record, others=others)
        except (KeyError, TypeError) as error:
            raise CorruptFileError(describe(str(path), "the record of an explanation", repr(error))) from error


def first_words(explanation: Explanation) -> list[str]:
    """Return the words of a prompt's name, or without a name the vocabulary word nearest to each soft token."""
    if explanation.named is not None and explanation.named["words"]:
        return [*explanation.named["words"]]
    return [token[0].word for token in explanation.words if token]


def _check_rate(score: ActivationScore, place: str) -> None:
    if score.rate is not None and score.interval is not None:
        read_as(tuple[Share, Share], list(score.interval), f"{place}, interval")


def _read_soft(data: bytes, path: Path) -> torch.Tensor:
    soft = parse_tensors(data, path)["prompt_embeds"]
    if soft.ndim != 2 or not soft.is_floating_point():
        raise CorruptFileError(describe(str(path), "floating point [n_tokens, d]", f"{list(soft.shape)}, {soft.dtype}"))
    return soft
