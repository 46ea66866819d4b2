"""The command line."""

from diffexplain_fast.environment import share_processors

share_processors()  # here, because every command imports torch
