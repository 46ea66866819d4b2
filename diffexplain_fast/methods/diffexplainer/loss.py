"""The loss of one iteration of soft tokens: what the optimisation descends, and what a profile looks into."""

from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.evidence.perturb import perturb
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.evidence.seeds import seeded_generator
from diffexplain_fast.methods.diffexplainer.options import Options


def loss_of(problem: Problem, options: Options, soft: Tensor, number: int) -> tuple[Tensor, Scores]:
    """Return the loss of an iteration, and the scores of its images.

    Args:
        problem: generator, classifier and target.
        options: images, noise and the pull to words matter here.
        soft: soft tokens [n, d], in units of the problem's ``embedding_scale``.
        number: of the iteration, which seeds its noise.
    """
    first = number * options.images_per_step if options.fresh_latents else 0
    latents = range(first, first + options.images_per_step)
    pixels = problem.images(problem.encode_soft(soft * problem.embedding_scale), "train", latents)
    generator = seeded_generator(problem.seed, "perturb", number)
    scores = problem.scores(perturb(pixels, options.cutouts, options.noise, generator))
    loss = -scores.score.mean()
    if options.word_pull:
        loss = loss + options.word_pull * word_distance(soft, problem.vocabulary)
    return loss, scores


def word_distance(soft: Tensor, vocabulary: Tensor) -> Tensor:
    """Return mean_i min_w (1 - cos(v_i, E_w)) for soft tokens [n, d] and a vocabulary [V, d] of unit rows."""
    return 1 - (normalize(soft, dim=-1) @ vocabulary.T).amax(-1).mean()
