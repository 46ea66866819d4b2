"""How often a search finds what a class answers to, and at what cost."""
