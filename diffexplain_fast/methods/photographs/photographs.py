"""The audit of the user's own pictures: paste, compare with the generator, and say what concepts do not explain."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.photographs.given import Given, batches
from diffexplain_fast.methods.photographs.labels import Labels, read_labels, shortcuts_of
from diffexplain_fast.methods.photographs.pasting import pastable, regions_of
from diffexplain_fast.methods.photographs.rows import agreement, pasted_rows
from diffexplain_fast.methods.photographs.slices import slices_of, training_groups
from diffexplain_fast.methods.photographs.tools import Tools
from diffexplain_fast.methods.photographs.trial import Pasted, paste_group
from diffexplain_fast.methods.photographs.unexplained import unexplained
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.photographs import Photographs, Slice


def photographs_of(
    given: Given,
    concepts: Concepts,
    readout: Readout,
    tools: Tools,
    audit: Audit,
    report: Callable[[int, int], None],
) -> Photographs:
    """Return what own pictures say of a classifier, beside the audit of generated ones.

    Args:
        given: the pictures.
        concepts: of the audit.
        readout: the classifier and its targets.
        tools: what looks at the pictures.
        audit: of generated pictures: its rows are compared, its verdicts name shortcuts, its settings hold the minimal
            effect, the level and the seed.
        report: receives pictures that are done and pictures that will be.

    Raises:
        ImportError: a package is missing, see ``check_tools``.
        NonFiniteError: an answer with NaN or infinity.
    """
    settings, notes, labels = audit.settings, [], read_labels(given.labels, readout)
    given = replace(given, labels=labels.names)
    hits = np.concatenate([readout(part)[1] for part in batches(given.pixels)])
    classes = [place for place, index in enumerate(readout.classes) if index is not None]
    if tools.sight is None:
        notes.append("No eye says what the pictures show: give one as eye=")
        seen = np.full((len(given.pixels), len(concepts.groups)), -1)
    else:
        seen = given.seen(concepts, tools.sight.look)
    if not concepts.groups:
        notes.append("The concepts are free words only, so that the pictures are not told apart: give groups of values")
    trials: list[Pasted] = []
    if tools.segment is None:
        notes.append("No segmenter finds things in the pictures, so nothing was pasted: give one as segmenter=")
    elif tools.sight is not None:
        trials = _trials(given, concepts, readout, tools, seen, settings["seed"], notes, report)
    declared = {(row.target, row.concept): row.declared_by for row in audit.rows}
    rows = pasted_rows(
        trials,
        concepts,
        readout.names,
        lambda target, concept: declared.get((target, concept)),
        settings["minimal_effect"],
        settings["level"],
    )
    explained, shortcuts = [], shortcuts_of(audit, readout, labels)
    if tools.sight is not None and concepts.groups and readout.answers and classes:
        levels = [len(values) for values in concepts.groups.values()]
        names = [readout.names[place] for place in classes]
        explained = unexplained(seen, levels, hits[:, classes], tools.sight.errors, names, settings["seed"])
    return Photographs(
        pictures=len(given.pixels),
        rows=rows,
        agreement=agreement(rows, audit.rows, _own_shares(seen, concepts, audit, declared)),
        explained=explained,
        slices=_slices(labels, readout, hits, seen, concepts, notes),
        groups=training_groups(labels.given, seen, concepts, shortcuts) if labels.given else [],
        notes=notes,
    )


def _trials(
    given: Given,
    concepts: Concepts,
    readout: Readout,
    tools: Tools,
    seen: np.ndarray,
    seed: int,
    notes: list[str],
    report: Callable[[int, int], None],
) -> list[Pasted]:
    assert tools.segment is not None
    found = []
    for group in pastable(concepts):
        regions = regions_of(given, concepts, seen, group, tools.segment, tools.ask)
        trial = paste_group(given, regions, readout, seed, report)
        if trial is None:
            name = list(concepts.groups)[group]
            notes.append(f"{name}: too few pictures show two of its values, so nothing was pasted")
        else:
            found.append(trial)
    return found


def _own_shares(
    seen: np.ndarray, concepts: Concepts, audit: Audit, declared: Mapping[tuple[str, str], str | None]
) -> dict[str, float]:
    """Return target to the share of the pictures that show the target's own object."""
    found = {}
    for group, (name, values) in enumerate(concepts.groups.items()):
        for place, value in enumerate(values):
            for target in audit.verdicts:
                if declared.get((target, f"{name}:{value}")) == "label":
                    found[target] = float((seen[:, group] == place).mean())
    return found


def _slices(
    labels: Labels, readout: Readout, hits: np.ndarray, seen: np.ndarray, concepts: Concepts, notes: list[str]
) -> list[Slice]:
    """Return the accuracies of the pictures whose label is a target; of others nobody has asked whether it is right."""
    if not readout.answers:
        notes += ["The classifier answers with numbers, so that its answers have no accuracy"] if labels.given else []
        return []
    there = [i for i, label in enumerate(labels.given) if label in labels.places]
    notes += labels.notes
    right = np.array([hits[i, labels.places[labels.given[i]]].any() for i in there], dtype=bool)
    told, names = ([part[i] for i in there] for part in (labels.given, labels.names))
    return slices_of(told, right, seen[there], concepts, names)
