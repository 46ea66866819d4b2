"""Every public name of the package and the module that it is imported from, at first use."""

HOMES = {
    "Audit": "results.audit",
    "ClassLogit": "targets",
    "ClassProbability": "targets",
    "Classifier": "models.classifier",
    "Concepts": "evidence.concepts",
    "DifferentiableSampler": "engine.sampler",
    "Disagreement": "targets",
    "Explainer": "api.explainer",
    "Explanation": "results.explanation",
    "Neuron": "targets",
    "Response": "targets",
    "Target": "targets",
    "accelerate": "engine.accelerated",
    "explain": "api.one_call",
    "gradients": "engine.gradients",
    "make_classifier": "recipe.making",
    "plot": "report.writing",
    "tinyworld": "tinyworld",
    "write_report": "report.writing",
}
