"""Trials whose answers are made up, and audits of tiny models: shared by the tests of audits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.plan import Plan, context_plan
from diffexplain_fast.methods.discovery.rows import Trial, rows_of
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import Verdict
from diffexplain_fast.stats.cells import Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from tests.tiny import LABELS, tiny_classifier, tiny_sd

GROUPS = {
    "object": ["boat", "fish", "tree", "house"],
    "background": ["desert", "snow", "sea", "grass"],
    "colour": ["red", "blue", "green"],
}
SPOKEN = Phrases("as they are", 2, False, lambda scene, words, number: " ".join([*scene.values(), *words]))
QUICK: dict[str, Any] = {"pictures": 24, "num_inference_steps": 1, "guidance_scale": 1.0}
TINY_GROUPS = {"background": ["desert", "snow"], "colour": ["red", "blue"]}


class AnyText:
    """A pipeline as plans see it: every caption fits."""

    max_tokens = 99

    def fits(self, text: str) -> bool:
        """Return True."""
        return True


def made_up(
    effects: Mapping[tuple[str, str], float],
    pictures: int = 384,
    noise: float = 0.5,
    seen: np.ndarray | None = None,
    concepts: Concepts | None = None,
    both: tuple[str, str, str, float] | None = None,
) -> Trial:
    """Return a trial of four classes whose logits are sums of given effects and noise.

    Args:
        effects: class and concept to what the concept adds to the class's logit, beside 2 for its own object.
        pictures: of the trial.
        noise: standard deviation.
        seen: what an eye saw; None without an eye.
        concepts: of the trial; ``GROUPS`` if None.
        both: class, two concepts, and what only both together add.
    """
    concepts = Concepts(GROUPS) if concepts is None else concepts
    plan: Plan = context_plan(concepts, SPOKEN, AnyText(), pictures, 0).first(pictures)  # type: ignore[arg-type]
    named, rng = plan.asked.named, np.random.default_rng(1)
    logits = noise * rng.standard_normal((pictures, len(LABELS)))
    added = {(label, f"object:{label}"): 2.0 for label in LABELS if f"object:{label}" in concepts.names} | dict(effects)
    for (label, concept), effect in added.items():
        logits[:, LABELS.index(label)] += effect * named[:, concepts.names.index(concept)]
    if both is not None:
        places = [concepts.names.index(name) for name in both[1:3]]
        logits[:, LABELS.index(both[0])] += both[3] * named[:, places].all(1)
    hits = logits.argmax(1)[:, None] == np.arange(len(LABELS))
    values = logits - logits.mean(1, keepdims=True)
    classifier = Classifier(tiny_classifier(), labels=LABELS, output="softmax")
    readout = Readout(classifier, LABELS, LABELS, tuple(range(len(LABELS))), {})
    rule = Rule(looks(pictures), 0.5, 0.05, "fdr", 0)
    own = [own_concept(concepts, label) for label in LABELS]
    judged = judge(plan.asked, estimate(plan.asked, values, own, pictures), rule, 0.03)
    return Trial(concepts, readout, plan, Measured(values, hits, seen), judged, judged.estimate, {}, None, 0.5, 0.05)


def quick_audit(pool: Path, **options: Any) -> Audit:
    """Return an audit of the tiny classifier with the tiny pipeline, whose pictures show nothing."""
    classifier = Classifier(tiny_classifier(), labels=LABELS)
    with Explainer(load_pipeline(tiny_sd()), classifier) as explainer:
        return explainer.audit(**{"concepts": TINY_GROUPS, "pool": pool, **QUICK, **options})


def drawn_audit(effect: float = 3.0, **changes: Any) -> Audit:
    """Return an audit of made-up answers, with the arrays of its trial, in which deserts raise fish.

    Args:
        effect: by how much.
        changes: other fields of the audit.
    """
    trial = made_up({("fish", "background:desert"): effect}, 96)
    asked, verdict = trial.plan.asked, Verdict("spurious", ["background:desert"], "A shortcut.", [], [0, 1])
    outcomes = {"design": asked.design, "values": trial.data.values, "hits": trial.data.hits}
    outcomes |= {"levels": np.array(asked.levels), "groups": np.array([asked.groups])}
    settings = {"pictures": 96, "pictures_used": 96, "minimal_effect": 0.5, "level": 0.05, "control": "fdr", "seed": 0}
    settings |= {"eye": None, "output": "softmax", "pictures_beside": {}, "own_pictures": None}
    settings |= {"targets": [*LABELS], "concepts": trial.concepts.record()}
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("yellow", "white")]
    parts = {"verdicts": {"fish": verdict}, "settings": settings, "images": pictures, "outcomes": outcomes}
    return Audit(**{"classifier": "made up", "rows": rows_of(trial), "interactions": [], **parts, **changes})
