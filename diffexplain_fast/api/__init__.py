"""The public entry: an Explainer owns pipeline, classifier and samplers, and runs methods with them."""
