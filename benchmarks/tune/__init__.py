"""Candidate configurations of the kernels, timed on the card that is here: ``python -m benchmarks.tune``."""
