"""The public name of ``diffexplain_fast.recipe``: ``python -m diffexplain_fast.tinyworld.recipe`` runs it."""

from diffexplain_fast import recipe

__path__ = recipe.__path__
