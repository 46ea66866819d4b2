"""The options of an explanation, checked once and early."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.methods.diffexplainer.checks import check_candidates, checked_count, checked_number
from diffexplain_fast.models.labels import check_text
from diffexplain_fast.runs.spending import read_limit

AUTO, _PICTURES = "auto", "images_per_step"


@dataclass(frozen=True)
class Options:
    """How to optimise and how to score a soft prompt.

    Args:
        prefix: real words before the soft tokens ("a texture of").
        n_tokens: soft tokens, at least 1.
        iterations: optimisation steps of one attempt, at least 1.
        lr: step size of Adam in units of the root mean square of the vocabulary's embeddings, so that it means the
            same for every text encoder.
        images_per_step: start latents of one step, at least 1. ``explain`` also takes "auto": of 1, 2, 4 and 8 the
            number that takes the least time for each picture under the limit ``memory``, the largest of those that take
            nearly the same. Without a limit nothing decides, so it is the default. A run that resumes keeps its number.
        start: "auto" (screened words and the class name, the best first; where they do not suffice, or there are too
            many words, a search with gradients), "screen" (screened words), "gradient" (a search without any word),
            "class_name", "random" (near the mean of the vocabulary), or the words to start from.
        restarts: further starts, and populations of a search, if fewer than ``restart_below`` of validation are hits.
        budget: what the search of all explanations of a call may spend, as 2000 or "2000 rows" of the denoiser, with
            and without gradient, or "40 s", "5 min" on the wall; None is no limit. It is looked at between batches and
            steps. The best start is validated in any case, one step is taken, and the result is validated and scored
            on unseen draws, which does not count. The names of the work that was left out are in
            ``settings["found"]["left_out"]``. Seconds do not repeat on another machine.
        search_steps: denoising steps of a picture while many words are screened and prompts are searched, at most the
            sampler's; None is half of the sampler's, but at least four. Validation and scores use all steps.
        search_batch: pictures of one call with gradient while many prompts are searched, at least 1.
        restart_below: validation rate in [0, 1] under which the next start is tried.
        candidates: words to screen, of at most ``n_tokens`` tokens, the same tokens once; default every whole word of a
            small vocabulary, else the labels that fit. What a search finds is named with words of the whole vocabulary.
        normalise_gradient: give the gradient of every token unit root mean square before Adam.
        cosine_schedule: let the step size fall to zero along a cosine.
        word_pull: weight of the pull to the nearest vocabulary tokens (DiffExplainer's nn_loss), at least 0.
        cutouts: random square crops of every image that the classifier sees beside the image, at least 0.
        noise: standard deviation of the noise on what the classifier sees, pixels in [0, 1].
        fresh_latents: draw new start latents in every step; False repeats the first ones.
        stop_probability: a step whose images all reach this target probability changes nothing, and after ``patience``
            of them in a row the optimisation stops if no more than one validation image is missed: the images stay
            near what is natural. None, or a target that is not a plain class, runs all iterations.
        patience: see ``stop_probability``.
        validate_every: steps between validations; the best validated state is the result.
        n_validation: start latents of a validation, and of the second look at the best screened words.
        n_images: images in the result, from held-out latents, at most ``n_score``.
        n_score: start latents of each activation score.
        checkpoint_every: steps between checkpoints, where a checkpoint folder is given.

    Raises:
        TypeError: an option of the wrong kind.
        ValueError: an option out of its range.
    """

    prefix: str = ""
    n_tokens: int = 3
    iterations: int = 30
    lr: float = 0.05
    images_per_step: int = field(default=2, metadata={"given": int | str})
    start: str = "auto"
    restarts: int = 1
    restart_below: float = 0.75
    budget: int | str | None = None
    search_steps: int | None = None
    search_batch: int = 8
    candidates: Sequence[str] | None = None
    normalise_gradient: bool = True
    cosine_schedule: bool = False
    word_pull: float = 0.0
    cutouts: int = 0
    noise: float = 0.0
    fresh_latents: bool = True
    stop_probability: float | None = 0.95
    patience: int = 3
    validate_every: int = 10
    n_validation: int = 12
    n_images: int = 8
    n_score: int = 32
    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        for name in ("prefix", "start"):
            if not isinstance(text := getattr(self, name), str):
                raise wrong_type(name, "text", text)
            check_text(name, [text])
        if not self.start.strip():
            wanted = '"auto", "screen", "gradient", "class_name", "random" or words'
            raise wrong_value("start", wanted, repr(self.start))
        steps = ("n_tokens", "iterations", "images_per_step", "patience", "validate_every", "checkpoint_every")
        for name in (*steps, "n_validation", "n_images", "n_score", "search_batch"):
            self._take(name, checked_count(name, getattr(self, name), least=1))
        for name in ("restarts", "cutouts"):
            self._take(name, checked_count(name, getattr(self, name), least=0))
        if self.search_steps is not None:
            self._take("search_steps", checked_count("search_steps", self.search_steps, least=1))
        read_limit(self.budget)
        self._take("lr", checked_number("lr", self.lr, "above 0", lambda value: value > 0))
        for name in ("word_pull", "noise"):
            self._take(name, checked_number(name, getattr(self, name), "at least 0", lambda value: value >= 0))
        below = checked_number("restart_below", self.restart_below, "in [0, 1]", lambda value: 0 <= value <= 1)
        self._take("restart_below", below)
        if (stop := self.stop_probability) is not None:
            stop = checked_number("stop_probability", stop, "in (0, 1]", lambda value: 0 < value <= 1)
            self._take("stop_probability", stop)
        for name in ("normalise_gradient", "cosine_schedule", "fresh_latents"):
            if not isinstance(getattr(self, name), bool):
                raise wrong_type(name, "True or False", getattr(self, name))
        if self.n_images > self.n_score:
            raise wrong_value("n_images", f"at most n_score = {self.n_score}", self.n_images)
        check_candidates(self.candidates)

    def _take(self, name: str, value: float) -> None:
        """Keep a number as an int or float of Python, of whatever library it was: settings and checkpoints are JSON."""
        object.__setattr__(self, name, value)


def is_auto(given: Mapping[str, object]) -> bool:
    """Whether the caller leaves the pictures of a step to the memory."""
    return given.get(_PICTURES) == AUTO


def options_from(given: Mapping[str, object], others: Sequence[str] = ()) -> Options:
    """Return options by name.

    Args:
        given: values by name of option; for images_per_step "auto" the default stands until ``is_auto`` is answered.
        others: names that are known beside the options, for the message.

    Raises:
        TypeError: an option that does not exist, the message names the nearest; an option of the wrong kind.
        ValueError: an option out of its range.
    """
    known = [option.name for option in fields(Options)]
    if isinstance(pictures := given.get(_PICTURES), str):
        if pictures != AUTO:
            raise wrong_value(_PICTURES, f'a whole number of at least 1, or "{AUTO}"', repr(pictures))
        given = {name: value for name, value in given.items() if name != _PICTURES}
    for name in given:
        if name not in known:
            raise TypeError(str(unknown_name("option", name, [*known, *others])))
    checked: Callable[..., Options] = Options  # it checks the kind of every value itself
    return checked(**given)
