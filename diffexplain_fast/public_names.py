"""Every public name of the package and the module that it is imported from, at first use."""

HOMES = {
    "Attribution": "results.attribution",
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
    "Taxonomy": "taxonomy",
    "accelerate": "engine.accelerated",
    "editing": "editing",
    "explain": "api.explainer",
    "gradients": "engine.gradients",
    "make_classifier": "recipe.making",
    "plot": "report.writing",
    "tinyworld": "tinyworld",
    "write_report": "report.writing",
}
