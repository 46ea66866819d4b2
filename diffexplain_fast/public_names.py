"""Every public name of the package, and the module from which it is imported at first use."""

HOMES = {
    "ClassLogit": "targets",
    "ClassProbability": "targets",
    "Classifier": "models.classifier",
    "DifferentiableSampler": "engine.sampler",
    "Disagreement": "targets",
    "Explainer": "api.explainer",
    "Explanation": "results.explanation",
    "Neuron": "targets",
    "Response": "targets",
    "Target": "targets",
    "accelerate": "engine.accelerated",
    "all_of": "recipe.making",
    "any_of": "recipe.making",
    "explain": "api.explainer",
    "gradients": "engine.gradients",
    "make_classifier": "recipe.making",
    "plot": "report.writing",
    "tinyworld": "tinyworld",
    "write_report": "report.writing",
}
