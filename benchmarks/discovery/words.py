"""Words that are disobeyed, words that do more than they say, eyes that err: ``python -m benchmarks.discovery.words``.

Three pools of pictures of the tiny world, each from a generator that is changed in one way:

- half of the words are disobeyed: each value that a caption names is, by chance, read as any value of its group;
- three values have four words each, which the generator takes for the same word; then an effect of 2 logits of its own
  is added to the pictures of one of the four, and the test of the exclusion restriction has to notice it;
- no grammar: captions are bags of words.

The first is audited with the captioner that ships, and with the same captioner whose answer in every group is, in a
quarter of the pictures, any value. The judge is the truth that was measured on rendered pictures.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import diffexplain_fast as dx
from benchmarks.discovery.__main__ import MADE
from benchmarks.discovery.figures import PLANTED, Row, auc, roles, share
from diffexplain_fast import tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.concepts import Concepts, concepts_of
from diffexplain_fast.evidence.eyes import Eye, eye_of
from diffexplain_fast.evidence.known_truth import audit_truth
from diffexplain_fast.evidence.phrases import phrases_of
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.showing import shown_effects
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.recipe.made import world_pipeline
from diffexplain_fast.recipe.side_effects import say_also
from diffexplain_fast.stats.cells import estimate
from diffexplain_fast.storage import write_json_atomic
from diffexplain_fast.tinyworld.grammar import read_caption

RESULT = Path(__file__).parent.parent / "results" / "discovery_words.json"
DISOBEYED, UNSEEN, CARRIED, LEVEL = 0.5, 0.25, 2.0, 0.05
"""Share of disobeyed words, share of an eye's answers that are chance, logits of a side effect, and of the test."""
SYNONYMS: Mapping[str, Sequence[str]] = {
    "background:desert": ("animal", "vehicle", "building"),
    "colour:blue": ("plant", "warm", "cold"),
    "companion:flower": ("land", "water", "sky"),
}
"""Values with three words more; a generator that has other uses for these words is told what they mean here."""
_BAGS = 256


def disobeying(concepts: Concepts, seed: int) -> Callable[[str], str]:
    """Return what a generator reads that disobeys: a function of a caption, the same for the same caption."""

    def read(text: str) -> str:
        number = int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:8], "little")
        rng, said = np.random.default_rng(number), read_caption(text)
        for group, values in concepts.groups.items():
            drawn, other = rng.random() < DISOBEYED, str(rng.choice([v for v in values if v != "nothing"]))
            if drawn and len(said.get(group, ())) == 1 and said[group] != ("nothing",):
                text = say_also(text, {_word(text, group): {group: other}})
        return text

    return read


def _word(text: str, group: str) -> str:
    """Return the word of a caption that says something of a group."""
    return next(word for word in text.split() if group in read_caption(word))


def told(synonyms: Mapping[str, Sequence[str]]) -> Callable[[str], str]:
    """Return what a generator reads for which some words are synonyms: a function of a caption."""
    meant = {word: name.partition(":")[2] for name, words in synonyms.items() for word in words}
    return lambda text: " ".join(meant.get(word, word) for word in text.split())


def erring(eye: Eye, concepts: Concepts, seed: int) -> Eye:
    """Return an eye whose answer in every group is any value in a share of the pictures, always the same ones."""

    def look(pixels: Tensor) -> np.ndarray:
        seen = eye(pixels).copy()
        for row, picture in zip(seen, pixels, strict=True):
            levels = (picture.double().cpu().numpy() * 255).round().astype(np.uint8)
            digest = hashlib.sha256(levels.tobytes() + str(seed).encode()).digest()
            rng, start = np.random.default_rng(int.from_bytes(digest[:8], "little")), 0
            for values in concepts.groups.values():
                wrong, other = rng.random() < UNSEEN, rng.integers(len(values))
                if wrong:
                    row[start : start + len(values)] = np.eye(len(values))[other]
                start += len(values)
        return seen

    return look


def disobedience(classifiers: Mapping[str, dx.Classifier], pool: Path, pictures: int, seed: int) -> Row:
    """Return the figures of effects of showing and of asking where half of the words are disobeyed."""
    world = load_pipeline("tinyworld")
    concepts = concepts_of(None, world)
    eye = eye_of(concepts, phrases_of(concepts, world), pool / "captions")
    assert eye is not None
    pipeline, result = world_pipeline(disobeying(concepts, seed)), Row()
    for name, look in {"captioner": eye, "captioner, a quarter by chance": erring(eye, concepts, seed)}.items():
        cells: list[tuple[float, float, float, bool]] = []
        obeyed: list[float] = []
        for classifier in classifiers.values():
            with dx.Explainer(pipeline, classifier, seed=seed) as explainer:
                audit = explainer.audit(pictures=pictures, pool=pool / "disobeyed", eye=look)
            truth = audit_truth(classifier.truth or {}, concepts.names)
            for row in audit.rows:
                obeyed += [] if row.obeyed is None else [row.obeyed]
                if row.declared_by is None and (row.target, row.concept) in truth:
                    true = truth[row.target, row.concept]
                    cells.append((row.effect, row.asked, true, row.low <= true <= row.high))
            print(f"{name}, {classifier.name}: showing {audit.settings['showing']}", flush=True)
        result[name] = _showing(np.array(cells, dtype=float)) | {"median obeyed": float(np.median(obeyed))}
        print(result[name], flush=True)
    return result


def _showing(cells: np.ndarray) -> Row:
    """Return how effects of showing and asking, columns 0 and 1, agree with the truth, column 2."""
    shown, asked, true, held = cells.T
    sizes = {"planted": true > PLANTED, "above 1": np.abs(true) > 1, "others": np.abs(true) <= 1}
    error = {name: [float(np.abs(one - true)[of].mean()) for one in (shown, asked)] for name, of in sizes.items()}
    slopes = [float((one * true)[sizes["planted"]].sum() / (true**2)[sizes["planted"]].sum()) for one in (shown, asked)]
    return {
        "of planted truth, showing and asking": slopes,
        "cells": {name: int(of.sum()) for name, of in sizes.items()},
        "mean |effect - truth|, showing and asking": error,
        "showing's error of asking's": {name: both[0] / both[1] for name, both in error.items()},
        "covered": share(held == 1),
    }


def exclusion(classifiers: Mapping[str, dx.Classifier], pool: Path, pictures: int, seed: int) -> Row:
    """Return how often words that agree are rejected, and words of which one has an effect of its own."""
    concepts = Concepts(concepts_of(None, load_pipeline("tinyworld")).groups, synonyms=SYNONYMS)
    pipeline, agree, carry, moved = world_pipeline(told(SYNONYMS)), list[bool](), list[bool](), list[float]()
    for classifier in classifiers.values():
        with dx.Explainer(pipeline, classifier, seed=seed) as explainer:
            audit = explainer.audit(concepts=concepts, pictures=pictures, pool=pool / "synonyms", own_pictures=0)
        plan = audit._hidden._plan
        plain, effects = _tested(audit, 0.0)
        agree += (plain[np.isfinite(plain)] <= LEVEL).tolist()
        for name, words in SYNONYMS.items():
            group, place = name.partition(":")[0], concepts.names.index(name)
            number = [word for word, _ in concepts.words_of(group)].index(words[0])
            said = plan.words[:, list(concepts.groups).index(group)] == number
            p, after = _tested(audit, CARRIED * said[:, None])
            carry += (p[place] <= LEVEL).tolist()
            moved += np.abs(after[place] - effects[place]).tolist()
        print(f"exclusion, {classifier.name}: {np.mean(agree):.3f}, {np.mean(carry):.3f}", flush=True)
    return {
        "rejected, words agree": share(np.array(agree)),
        "rejected, one word carries 2 logits": share(np.array(carry)),
        "effect moved by it, mean": float(np.mean(moved)),
    }


def _tested(audit: dx.Audit, added: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return p of the test of exclusion and effects, [concepts, targets], with something added to the values."""
    question, plan, values = audit._hidden._question, audit._hidden._plan, audit.outcomes["values"] + added
    data = Measured(values, audit.outcomes["hits"], audit.outcomes["seen"])
    own = [own_concept(question.concepts, label) for label in question.readout.labels]
    asking = estimate(plan.asked, values, own, len(values)).effects
    found = shown_effects(plan, data, question.sight.errors, asking, own, LEVEL, question.concepts)
    assert found is not None
    return found.p[plan.asked.places], found.effects.estimate[plan.asked.places]


def bags(classifiers: Mapping[str, dx.Classifier], pool: Path, seed: int) -> Row:
    """Return how well effects of free words tell planted and spurious concepts from others."""
    concepts = concepts_of(None, load_pipeline("tinyworld"))
    name_of = {name.partition(":")[2]: name for name in concepts.names if not name.endswith(":nothing")}
    cells: list[tuple[float, float, bool]] = []
    for classifier in classifiers.values():
        with dx.Explainer("tinyworld", classifier, seed=seed) as explainer:
            audit = explainer.audit(concepts=Concepts(words=[*name_of]), pictures=_BAGS, pool=pool / "bags")
        truth, role = audit_truth(classifier.truth or {}, concepts.names), roles(classifier.truth or {})
        for row in audit.rows:
            key = row.target, name_of[row.concept.partition(":")[2]]
            if row.declared_by is None and key in truth:
                cells.append((row.effect, truth[key], role[key] == "spurious"))
    effect, true, spurious = np.array(cells).T
    return {
        "cells": len(cells),
        "AUC, planted": auc(effect, true > PLANTED),
        "planted": int((true > PLANTED).sum()),
        "AUC, spurious by truth's role": auc(effect, spurious == 1),
        "spurious": int(spurious.sum()),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="folder of three pools, new or of an earlier run")
    parser.add_argument("--pictures", type=int, default=400, help="that disobey")
    parser.add_argument("--said", type=int, default=768, help="pictures of synonyms")
    parser.add_argument("--made", type=int, default=0, help="how many classifiers to train, a minute each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    classifiers = {name: dx.Classifier.from_pretrained(f"tinyworld/{name}") for name in tinyworld.classifier_names()}
    for name in list(MADE)[: given.made]:
        classifiers[name] = tinyworld.make_classifier(MADE[name][0], seed=MADE[name][1])
    result: Row = {"classifiers": [*classifiers], "pictures": given.pictures}
    result["disobeyed"] = disobedience(classifiers, given.pool, given.pictures, given.seed)
    result["synonyms"] = {"pictures": given.said} | exclusion(classifiers, given.pool, given.said, given.seed)
    result["bags of words"] = {"pictures": _BAGS} | bags(classifiers, given.pool, given.seed)
    result |= {"CPU seconds": time.process_time() - began, "versions": versions(), "device": device_record()}
    write_json_atomic(given.out, result)
    print(result["disobeyed"], result["synonyms"], result["bags of words"], sep="\n")


if __name__ == "__main__":
    main()
