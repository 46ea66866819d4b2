"""What a search may spend: rows of the denoiser or seconds; what is left out when nothing remains is written down."""

from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.runs.spending import Limit, read_limit

WORDS, SECOND_LOOKS, SECOND_WORDS = "words", "second looks", "second words"
SEARCHING, NAMING, STEPS, MODES = "search", "naming", "steps", "further explanations"
"""Names of the work that a budget leaves out."""


class Budget(Limit):
    """A limit that is looked at before every batch of pictures that a search can do without.

    The best start of each kind is validated in any case, and so is the result, because nothing that was found may be
    lost. So a search exceeds its budget by one batch or step, and by these validations.
    """

    def is_spent(self, cost: Cost) -> bool:
        """Whether nothing is left."""
        too_many = self.rows is not None and cost.rows + cost.earlier[0] >= self.rows
        return too_many or (self.seconds is not None and cost.spent[2] + cost.earlier[1] >= self.seconds)

    def leaves_out(self, work: str, cost: Cost) -> bool:
        """Whether nothing is left, so that some work is left out; the cost remembers the name of the work."""
        spent = self.is_spent(cost)
        if spent and work not in cost.left_out:
            cost.left_out.append(work)
        return spent


def read_budget(budget: object) -> Budget:
    """Return the budget that a user wrote; see ``read_limit``."""
    return Budget(*read_limit(budget))
