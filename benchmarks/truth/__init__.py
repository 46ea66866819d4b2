"""How much of what a classifier relies on does a method find: planted classifiers, methods, and scores."""
