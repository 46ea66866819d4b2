"""Results that a step keeps although it is computed again: few bytes that took many multiplications."""

from collections import deque
from collections.abc import Callable

from torch import Tensor


class Shelf:
    """Results of one step, in the order in which the step computes them.

    The first time, the step puts results here; the second time, it takes them back and leaves their computation out.
    The step has to compute the same both times, so nothing in it is random.
    """

    def __init__(self) -> None:
        self._results: deque[tuple[Tensor, ...]] = deque()
        self._taking = False

    @property
    def nbytes(self) -> int:
        """Bytes of the results that lie here."""
        return sum(tensor.nbytes for results in self._results for tensor in results)

    def again(self) -> "Shelf":
        """Return this object, which from now on hands its results out, each once."""
        self._taking = True
        return self

    def results(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the results of a computation, which runs only the first time.

        Args:
            compute: the computation.
        """
        if self._taking:
            return self._results.popleft()
        results = compute()
        self._results.append(results)
        return results
