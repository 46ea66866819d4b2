"""What a search may spend: rows of the denoiser or seconds."""

from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.runs.spending import Limit, read_limit


class Budget(Limit):
    """A limit that is looked at between the steps of a search, so that a search exceeds it by one step at most."""

    def is_spent(self, cost: Cost) -> bool:
        """Whether nothing is left."""
        too_many = self.rows is not None and cost.rows >= self.rows
        return too_many or (self.seconds is not None and cost.spent[2] >= self.seconds)


def read_budget(budget: object) -> Budget:
    """Return the budget that a user wrote; see ``read_limit``."""
    return Budget(*read_limit(budget))
