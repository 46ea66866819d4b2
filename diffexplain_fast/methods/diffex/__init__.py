"""DiffEx: what semantics, from coarse to fine, do to a classifier's answer on given pictures."""
