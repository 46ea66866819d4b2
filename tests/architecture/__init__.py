"""The rules of the house as functions of a source tree; each returns its violations as readable lines."""

from tests.architecture.annotations import too_much_any
from tests.architecture.documentation import undocumented, without_docstring
from tests.architecture.fresh import heavy_imports, run_python, shadows_kernels
from tests.architecture.house import RANKS
from tests.architecture.imports import (
    circular_imports,
    closed_doors,
    imported_faces,
    methods_that_meet,
    unused_doors,
    upward_imports,
)
from tests.architecture.knowledge import known_backends, known_schedulers
from tests.architecture.layout import misplaced_tests
from tests.architecture.safety import misplaced_calls, unsafe_code
from tests.architecture.sizes import over_budget, too_much_measuring
from tests.architecture.source import sources

IMPORT_RULES = (upward_imports, circular_imports, closed_doors, unused_doors, imported_faces, methods_that_meet)
CODE_RULES = (known_backends, known_schedulers, too_much_any, over_budget, misplaced_calls, unsafe_code)
RULES = (*IMPORT_RULES, *CODE_RULES, too_much_measuring, without_docstring, misplaced_tests)
"""Rules that read the tree without running any of it."""

__all__ = [
    "RANKS",
    "RULES",
    "heavy_imports",
    "run_python",
    "shadows_kernels",
    "sources",
    "undocumented",
]
