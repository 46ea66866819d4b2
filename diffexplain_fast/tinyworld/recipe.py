"""``python -m diffexplain_fast.tinyworld.recipe``: the public name of ``diffexplain_fast.recipe``."""

from diffexplain_fast.recipe.__main__ import main

if __name__ == "__main__":
    main()
