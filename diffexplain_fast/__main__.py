"""``python -m diffexplain_fast`` is the command ``diffexplain-fast``."""

from diffexplain_fast.cli.entry import main

if __name__ == "__main__":
    main()
