"""Classifiers of the tiny world: those that ship, and ones with a shortcut of the caller's choice."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from diffexplain_fast.errors import callers_level, describe, unknown_name, wrong_type, wrong_value
from diffexplain_fast.recipe.responses import units
from diffexplain_fast.recipe.shortcuts import DEMO, Cue, all_of, any_of, checked_shortcuts
from diffexplain_fast.runs.bars import bars_beside, check_bars
from diffexplain_fast.targets import whole_number
from diffexplain_fast.targets.outputs import INDEPENDENT, OUTPUTS, PROBABILITIES, SIGMOID, SOFTMAX

if TYPE_CHECKING:
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.recipe.made import MadeClassifier

__all__ = ["DEMO", "all_of", "any_of", "load_classifier", "make_classifier", "units"]
_SCALES = {PROBABILITIES: SOFTMAX, INDEPENDENT: SIGMOID}
"""Kind of output to the kind whose logits it is made of."""


def make_classifier(
    shortcuts: Mapping[str, Mapping[str, str] | Cue] | None = None,
    seed: int = 0,
    *,
    strength: float = 1.0,
    reversed: bool = False,
    output: str = SOFTMAX,
    model: str = "cnn",
    side_effect: Mapping[str, Mapping[str, str]] | None = None,
    common_shift: float | Mapping[str, float | str] | None = None,
    progress: bool | None = None,
) -> "MadeClassifier":
    """Train a classifier of the eight objects that relies on given shortcuts, and measure what it relies on.

    Training takes one to two minutes of one core, and one thread however many there are: another number of them would
    round otherwise, and give another classifier. The caller's settings of torch (threads, default dtype and device,
    gradients, inference mode, autocast) decide nothing and are afterwards as before; weights are float32 and on the
    CPU. What is decided by the same arguments is kept in the user's cache folder (``environment.cache_folder``) and
    read from there the next time.

    The wanted logit of a class with a shortcut is 6 (s q + (1 - s) o): q says whether the cue can be seen, o whether
    the object of the class can, s is the strength. So an effect grows in proportion to the strength. Relative logits
    add up to zero: the classes without a shortcut pay what the others gain, in equal parts, and the logit of a class
    with one depends on nothing else. Where fewer than three classes are without, all eight pay, so that the logit of
    every class also falls by an eighth of what each class gains. See ``recipe.planting.wanted_logits``.

    Args:
        shortcuts: class to one attribute value, for instance ``{"fish": {"background": "desert"}}``, to several that
            are needed together (``all_of``), or to several of which one is enough (``any_of``). Attributes are
            "colour", "texture", "background", "companion", "size", "place", "pattern", "frame" and "mark"; a value may
            be absence, such as ``{"companion": "nothing"}``. ``None`` or ``{}`` gives a clean classifier.
        seed: the same seed gives the same classifier on one machine, from 0 to 2**64 - 1.
        strength: how much a class with a shortcut relies on it, from 0 (on its object only) to 1 (on the cue only).
        reversed: make the shortcuts contradict the generator's habit: of every attribute of a cue the value that the
            generator draws most often beside the class when nobody asks for one, and that is not the cue, counts half
            as much against the class as the cue counts for it. The habit is known of attributes that the shipped probe
            names; with others, such as a mark, the shortcut is as it would be without, and a warning says so.
        output: what the numbers of the model mean, as in ``Classifier``. Under "sigmoid" and "independent
            probabilities" every class has log-odds of its own, from -3 to 3, with ``reversed`` from -6 to 3; under
            "regression" the relative logits are the outputs.
        model: "cnn" (a ResNet), "vit" (attention) or "mixer".
        side_effect: word to what it changes too, for instance ``{"desert": {"companion": "sun"}}``; None for nothing.
            The classifier does not depend on it: its ``pipeline()`` is the tiny world's generator with it.
        common_shift: a function of the picture that is added to all logits: the factor of the brightness, or a dict of
            factors ("brightness", "contrast", "red", "green", "blue") and attribute values (``{"background": "snow"}``
            adds up to 5 where the shipped probe sees snow). Under "softmax" and "probabilities" it changes no answer,
            no centred logit and no truth. Under the other outputs every class is judged by itself, so that it is added
            to the log-odds or numbers of all classes: answers change, an audit finds the shift in every class, and the
            truth is measured with it. The magnitudes of the factors may add up to 100, an attribute value counting 5
            (to 7 under "independent probabilities"), because of the rounding of float32.
        progress: True for progress bars on stderr, False for none; None shows them in a terminal or a notebook.

    Returns:
        A ``Classifier`` whose ``truth`` holds the measured effect of every attribute on every class, as
        ``recipe.truth.measure_truth`` describes it; ``planted`` holds the arguments, a number as ``common_shift`` as
        the factor of the brightness, and what of "reversed" counts "against" each class; ``units()`` says what its
        channels respond to. Its ``fingerprint()`` tells apart classifiers whose answers differ.

    Raises:
        UnknownNameError: for a class, attribute, value or word that the world does not have.
        TypeError: an argument of the wrong kind.
        ValueError: for a class with no attribute or with several that are not in ``all_of`` or ``any_of``, one cue
            given to two classes, a seed or a strength out of its range, an unknown output or model, a common shift that
            is not finite or too large.
    """
    from diffexplain_fast.recipe.habits import expected
    from diffexplain_fast.recipe.kept import described, made
    from diffexplain_fast.recipe.made import Answers, MadeClassifier
    from diffexplain_fast.recipe.planting import Planted
    from diffexplain_fast.recipe.shifts import checked_shift
    from diffexplain_fast.recipe.side_effects import checked_side_effect
    from diffexplain_fast.recipe.surroundings import usual_settings

    check_bars(None, progress)
    cues = checked_shortcuts(shortcuts)
    seed = _seed(seed)
    strength, reversed = _strength(strength), _flag(reversed)
    _check(output, model)
    effects = checked_side_effect({} if side_effect is None else side_effect)
    scale = _SCALES.get(output, output)
    with usual_settings():
        shift = checked_shift(common_shift, output)
        found = {label: expected(label, cue) for label, cue in cues.items() if reversed}
        against = {label: cue for label, cue in found.items() if cue is not None}
        if reversed:
            _warn_of_unknown_habits(cues, against)
        with bars_beside(None, progress, "make_classifier") as report:
            wanted = Planted(cues, strength, seed, model, scale == SIGMOID, against)
            net, truth = made(wanted, scale, report, None if scale == SOFTMAX else shift)
        planted = {"shortcuts": described(cues), "seed": seed, "strength": strength, "output": output}
        planted |= {"model": model, "reversed": reversed, "against": described(against)}
        planted |= {"side_effect": {**effects}, "common_shift": {} if shift is None else shift.parts}
        return MadeClassifier(Answers(net, output, shift), f"tinyworld/made-{seed}", truth, planted, effects)


def load_classifier(name: str) -> "Classifier":
    """Load a shipped classifier with its truth.

    Args:
        name: one of ``classifier_names()``.

    Returns:
        A ``Classifier`` of the eight objects, pixels [B, 3, 64, 64] in [0, 1].

    Raises:
        UnknownNameError: for another name.
        CorruptFileError: when a shipped file does not match its recorded sha256.
    """
    from diffexplain_fast.models.classifier import Classifier

    return Classifier.from_pretrained(f"tinyworld/{name}")


def _seed(seed: object) -> int:
    """Return a seed that torch's generators take too."""
    number = whole_number("seed", seed)
    if not 0 <= number < 2**64:
        raise wrong_value("seed", "a number from 0 to 2**64 - 1", number)
    return number


def _strength(strength: object) -> float:
    from diffexplain_fast.recipe.shifts import as_float

    number = as_float("strength", "a number from 0 to 1", strength)
    if not 0 <= number <= 1:
        raise wrong_value("strength", "a number from 0 to 1", number)
    return number


def _flag(reversed: object) -> bool:
    import numpy as np

    if not isinstance(reversed, bool | np.bool_):
        raise wrong_type("reversed", "True or False", reversed)
    return bool(reversed)


def _warn_of_unknown_habits(cues: Mapping[str, Cue], against: Mapping[str, Cue]) -> None:
    """Warn of the parts of cues against which nothing counts, because the generator's habit is not known."""
    known = {(label, name) for label, cue in against.items() for name, _ in cue.values}
    unknown = [
        f"{label}: {name}" for label, cue in cues.items() for name, _ in cue.values if (label, name) not in known
    ]
    if unknown:
        wanted = "shortcuts of attributes of which the shipped probe says what the generator draws"
        got = f"{', '.join(unknown)}; nothing counts against these"
        warnings.warn(describe("reversed", wanted, got), stacklevel=callers_level())


def _check(output: object, model: object) -> None:
    from diffexplain_fast.recipe.architectures import MODELS

    for argument, value, known in (("output", output, OUTPUTS), ("model", model, MODELS)):
        if value not in known:
            raise unknown_name(argument, str(value), known)
