"""Results as values that save and load; nothing here draws."""

from diffexplain_fast.results.explanation import ActivationScore, Explanation, Iteration, Word

__all__ = ["ActivationScore", "Explanation", "Iteration", "Word"]
