"""The numbers and pictures that an attribution consists of: one value for each edit, effect and interaction."""

from dataclasses import dataclass

from PIL import Image

from diffexplain_fast.number_texts import UNBOUNDED, interval_texts
from diffexplain_fast.records import Count, Number, Share


@dataclass
class Row:
    """What a concept does to one picture.

    Attributes:
        image: number of the picture, from 0.
        concept: name of the concept, such as "background:desert".
        effect: change of the target's score: for a class its logit minus the mean of all logits, or its log-odds where
            each class is there or not. Mean of the verified edits; where none is verified, of all. Of a concept that
            was only screened it is that of a quick edit of a few steps, which nothing has checked.
        low: lower end of the 95 % interval.
        high: upper end; both come from what the tools of an edit do to the picture where nothing is to change, see
            ``Attribution.errors``, and are no nearer to the effect than Student's interval over seeds. Both are
            infinite where a budget ended before that was measured, where the concept was only screened, and where the
            score is flat: no redraw of the picture moved it, or by less than a ten-thousandth of the effect.
        success: share of edits that another model than the classifier has verified; None without an edit.
        n: edits, one for each seed; 0 for a concept that was only screened.
        effect_all: the same effect over all edits, verified or not; without an edit it is ``effect``.
        points: change of the class's probability in percent; None for a target without a class, and without an edit.
        unchanged: share of edits in which the verifier saw no other category change; None without an edit.
        editor: editor of the last edit; "screening" without an edit.
    """

    image: Count
    concept: str
    effect: Number
    low: Number
    high: Number
    success: Share | None
    n: Count
    effect_all: Number
    points: Number | None
    unchanged: Share | None
    editor: str

    @property
    def screened(self) -> bool:
        """Whether the concept was only screened on the picture, and not edited in full."""
        return self.n == 0


@dataclass
class Effect:
    """What a concept does over the pictures on which it was edited: each picture counts once.

    Attributes:
        concept: its name.
        effect: mean over the pictures with a verified edit, over all pictures where there is none. Of a concept that
            was only screened, and edited on no picture, it is the mean of what quick edits have shown.
        low: lower end of the 95 % interval, over pictures, and no nearer than the errors of edits on each picture
            allow; of one picture its own, which may be infinite. It is infinite of a concept that was only screened,
            and of fewer than six pictures with equal effects whose errors nobody knows.
        high: upper end.
        adjusted_p: p-value that the effect is nothing but what placebos do, adjusted for the number of concepts; 1 of
            a single picture whose errors are not known, as where a budget ended before or the score is flat, and of a
            concept that was only screened, because nothing was tested. Of several pictures without placebos it is that
            of Student's test and of the errors of edits; see ``Attribution.unmeasured``.
        n: pictures with a verified edit; equal pictures are one.
        effect_all: the same mean over all pictures with an edit, verified or not.
        success: share of verified edits; None of a concept that was only screened.
    """

    concept: str
    effect: Number
    low: Number
    high: Number
    adjusted_p: Number
    n: Count
    effect_all: Number
    success: Share | None

    @property
    def screened(self) -> bool:
        """Whether the concept was only screened, and edited in full on no picture."""
        return self.success is None


@dataclass
class Interaction:
    """What two concepts do together beyond the sum of what each does.

    Attributes:
        concept_a: name of one.
        concept_b: name of the other.
        effect: effect of both minus the effects of each; mean over the pictures in which all three edits are verified,
            over all pictures where there is none.
        low: lower end of the 95 % interval, infinite as those of rows are.
        high: upper end.
        n: pictures in which all three edits are verified.
        effect_all: the same mean over all pictures.
    """

    concept_a: str
    concept_b: str
    effect: Number
    low: Number
    high: Number
    n: Count
    effect_all: Number


@dataclass(eq=False)
class Edit:
    """An edited picture.

    Attributes:
        image: the picture.
        verified: whether another model than the classifier sees the concepts in it.
        effect: see ``Row``.
        concepts: names of what was changed.
        points: change of the class's probability in percent; None for a target without a class, and in attributions
            that were saved by a version that did not keep it.
        flipped: whether the classifier recognises the target class before the edit and not in the edited picture;
            before is, as for effects, the picture through the autoencoder inside the region of the edit. None where it
            does not recognise the target there, because the autoencoder alone has changed the decision, or in the
            picture itself, and as ``points`` is. Saved by earlier versions it compares with the picture itself.
    """

    image: Image.Image
    verified: bool
    effect: float
    concepts: tuple[str, ...]
    points: float | None = None
    flipped: bool | None = None


@dataclass
class Flip:
    """How often a concept alone changes the decision; a row of the table that StylEx reports.

    Attributes:
        concept: its name.
        points: mean change of the class's probability in percent.
        flipped: share of the pictures of which the decision leaves the target, in more than half of the verified edits.
        low: lower end of the 95 % Wilson interval of ``flipped``.
        high: upper end.
        n: pictures with a verified edit that can tell, see ``Edit.flipped``; equal pictures are one.
        together: share of all pictures that the classifier recognises of which this concept or one above it in the
            table changes the decision; equal pictures are one.
    """

    concept: str
    points: Number
    flipped: Share
    low: Share
    high: Share
    n: Count
    together: Share


@dataclass(eq=False)
class Counterfactual:
    """The smallest set of verified changes that was found to make the decision leave the target.

    It is compared with the picture through the autoencoder inside the region of the changes, in which the classifier
    recognises the target too: what the autoencoder alone does is no change. That of ``Explainer.counterfactual``, which
    keeps what the autoencoder loses, and those that earlier versions saved are compared with the picture itself.

    Attributes:
        image: the changed picture.
        changes: names of the concepts.
        before: what the classifier calls the picture; "not fish" where each class is there or not.
        after: what the classifier calls the changed picture.
        flipped: whether the decision left the target; else the set is the one that came nearest.
        probability_before: of the target in the picture that the changed one is compared with.
        probability_after: of the target in the changed picture.
    """

    image: Image.Image
    changes: tuple[str, ...]
    before: str
    after: str
    flipped: bool
    probability_before: float
    probability_after: float


def said_of(one: Row | Effect | Interaction) -> tuple[str, str]:
    """Return an effect as text, and the ends of its interval in brackets; an end without a bound is unknown."""
    effect, interval = interval_texts(one.effect, one.low, one.high)
    return effect, interval.replace(UNBOUNDED, "unknown")


def note_of(effect: Effect) -> str:
    """Return what a line of text says behind an effect that no verified edit measured, "" for another."""
    if effect.n:
        return ""
    return f"  ({'screened only, not edited' if effect.screened else 'no edit was verified'})"
