"""Where ``Problem`` was before it moved to ``evidence``."""

from diffexplain_fast.evidence.problem import Problem

__all__ = ["Problem"]
