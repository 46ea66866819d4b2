"""The words of a report, each explained in two sentences or less for a reader who does not know the field."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A term of a report.

    Attributes:
        name: the term, as in a list of words.
        text: what the term means.
    """

    name: str
    text: str


GLOSSARY = {
    "target": Entry(
        "target",
        "The number of the classifier that is explained: the probability of a class, an output, the activity of a "
        "neuron, or a sum of them.",
    ),
    "token": Entry(
        "soft token",
        "A diffusion model reads a prompt as a row of vectors, about one for each word. A soft token is such a vector "
        "that the search may choose freely, so it need not be a word.",
    ),
    "similarity": Entry(
        "cosine similarity",
        "How closely two vectors point in the same direction: 1 is the same direction, 0 means unrelated. A soft token "
        "whose nearest word has 0.9 practically is this word; if all its words are low, no word names it.",
    ),
    "noise": Entry(
        "start noise (a draw)",
        "A diffusion model makes each picture out of random noise. Each draw of noise gives another picture of the "
        "same prompt; the same noise under two prompts gives two pictures that can be compared.",
    ),
    "unseen": Entry(
        "unseen (held out)",
        "Start noise that the search never used. Its pictures show whether the explanation holds beyond the pictures "
        "with which it was found.",
    ),
    "name": Entry(
        "class-name prompt",
        "A prompt of only the name of the class. Its pictures are what the explanation has to be compared with.",
    ),
    "share": Entry(
        "share",
        "The number of pictures that the classifier recognises as the class, divided by the number of all pictures.",
    ),
    "agreement": Entry(
        "audit and edits",
        "An audit measures a concept in pictures that were drawn with and without it, an attribution by editing given "
        "pictures. Where the two differ, one of them errs, or the given pictures are of another kind.",
    ),
    "interval": Entry(
        "interval",
        "The range of values that fit the measurement: a 95 % interval contains the true value in 95 of 100 such "
        "measurements, another one as often as its percentage says. More pictures make it shorter.",
    ),
    "probability": Entry(
        "probability",
        "The classifier's own confidence that a picture shows the class, from 0 to 100 %. It need not be right.",
    ),
    "logit": Entry(
        "logit",
        "The number that the classifier computes for a class before it becomes a probability. It has no unit; one more "
        "multiplies the odds of the class against each other class by 2.7.",
    ),
    "log-odds": Entry(
        "log-odds",
        "A probability p as log(p / (1 - p)): 0 is one half, and one more multiplies the odds by 2.7. It has no unit.",
    ),
    "output": Entry("output", "The number that the classifier returns, in its own unit."),
    "effect": Entry(
        "effect",
        "The mean change of the classifier's number when only this attribute of a scene changes and everything else "
        "stays the same. Below zero, the attribute speaks against the class.",
    ),
    "spurious": Entry(
        "spurious",
        "An attribute that changes the answer although it is not part of the class, such as snow around a boat. A "
        "classifier that relies on it takes a shortcut.",
    ),
    "core": Entry("core", "An attribute that belongs to the class itself, such as the boat in pictures of boats."),
    "gradient": Entry(
        "step of the gradient",
        "The classifier's answer is differentiated through the whole diffusion model, and the prompt moves a little "
        "in the direction that makes the answer stronger.",
    ),
    "loss": Entry(
        "loss",
        "The number that the steps make smaller: the lower, the more the pictures convince the classifier.",
    ),
    "trial effect": Entry(
        "effect of asking",
        "The mean change of the target's number when the prompt asks for this concept in place of the median value of "
        "its group, or when an intervention changes a picture. Below zero, the concept speaks against the target.",
    ),
    "edit effect": Entry(
        "effect of an edit",
        "The change of the target's score when the picture is edited to show the concept, in the unit that stands "
        "above the table: the mean of the verified edits, and the mean of all edits.",
    ),
    "verified": Entry(
        "verified", "Share of the edits in which another model than the classifier sees the concept that was asked for."
    ),
    "suppresses": Entry(
        "suppresses", "The concept makes the answer less likely, although it is not part of the class."
    ),
    "more": Entry("more", "The effect in the first audit is above that in the second by more than the minimal effect."),
    "less": Entry("less", "The effect in the first audit is below that in the second by more than the minimal effect."),
    "undecided": Entry("undecided", "The pictures did not suffice to say whether the effect is large enough."),
    "not drawable": Entry("not drawable", "The diffusion model seldom draws what the word asks for."),
    "answered": Entry(
        "answered with, without",
        "Share of the pictures without the target's own object that are answered with the target: with the concept, "
        "and with the median value of its group. For an intervention, the share of all pictures, with it and without.",
    ),
    "obeyed": Entry(
        "obeyed",
        "Share of the pictures that asked for the concept in which another model sees it. For an intervention, the "
        "share of the pictures that it changes.",
    ),
    "answered difference": Entry(
        "difference of shares answered with, without",
        "Share of the pictures that are answered with the target in the first audit minus that in the second, in "
        "points of percent: with the concept, and with the median value of its group.",
    ),
    "obeyed difference": Entry(
        "difference of shares obeyed",
        "Share of the pictures that asked for the concept in which another model sees it, in the first audit minus the "
        "second, in points of percent.",
    ),
    "adjusted p": Entry(
        "adjusted p",
        "How often chance alone would give such a finding, counted over all rows together: 0.01 is once in a hundred.",
    ),
    "tipping point": Entry(
        "tipping point",
        "The error of the diffusion model, in the unit of the effect, that would be needed to explain a finding away.",
    ),
    "grad-cam": Entry(
        "Grad-CAM",
        "Where the last layer with places, of those through which the target's score passes, holds what speaks for the "
        "target. It shows a place, not what there would have to be different.",
    ),
    "flips": Entry(
        "decisions changed",
        "Share of the pictures that are no longer recognised as the target once the concept alone is edited into them, "
        "of those that still are once the same region has only gone through the autoencoder. "
        "With those above: share of all pictures of which this concept or one above it in the table does so.",
    ),
    "interaction": Entry(
        "effect beyond their sum",
        "What two concepts do together that the sum of their own effects does not explain.",
    ),
}
"""Terms by key; templates name the key."""
