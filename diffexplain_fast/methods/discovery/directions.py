"""Directions in the space of a layer's units: principal components, concept activation vectors, and given vectors."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value

_RIDGE = 0.1
"""Of the variance of a unit; keeps a concept activation vector finite where there are more units than pictures."""


def chosen_directions(
    given: int | Sequence[str] | Mapping[str, Sequence[float]],
    values: np.ndarray,
    named: np.ndarray,
    concepts: Sequence[str],
) -> dict[str, np.ndarray]:
    """Return the directions that a user means, by their names; each has length 1.

    Args:
        given: a number of principal components, names of concepts, or names of vectors.
        values: activations of the half of the pictures that chooses, float [pictures, units].
        named: whether each of them asks for a concept, bool [pictures, concepts].
        concepts: names of the concepts.

    Raises:
        TypeError: something else.
        UnknownNameError: no such concept.
        ValueError: none, more components than units, or a vector of another length or without a direction.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return _components(given, values)
    if isinstance(given, Mapping):
        found = {name: np.asarray(vector, dtype=np.float64) for name, vector in given.items()}
    elif isinstance(given, Sequence) and not isinstance(given, str):
        found = {}
        for concept in given:
            if concept not in concepts:
                raise unknown_name("directions", str(concept), concepts)
            found[f"CAV {concept}"] = concept_vector(values, named[:, list(concepts).index(concept)])
    else:
        raise wrong_type("directions", "a number of components, names of concepts, or a dict of vectors", given)
    if not found:
        raise wrong_value("directions", "at least one", "none")
    for name, vector in found.items():
        size = np.linalg.norm(vector)
        if vector.shape != values.shape[1:] or not np.isfinite(size) or size == 0:
            wanted = f"a vector of {values.shape[1]} finite numbers, not all 0"
            raise wrong_value(f"directions, {name}", wanted, list(vector.shape))
        found[name] = vector / size
    return found


def _components(count: int, values: np.ndarray) -> dict[str, np.ndarray]:
    most = min(values.shape[1], len(values) - 1)
    if not 1 <= count <= most:
        raise wrong_value("directions", f"1 to {most} components", count)
    rows = np.linalg.svd(values - values.mean(0), full_matrices=False)[2][:count]
    # The sign of a component is free: the largest weight is made positive.
    return {f"PCA {i + 1}": row * np.sign(row[np.abs(row).argmax()]) for i, row in enumerate(rows)}


def concept_vector(values: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return a concept activation vector: the normal of a linear classifier between pictures with and without it.

    The classifier is ridge regression of the label, which is Fisher's discriminant with a shrunk covariance.

    Args:
        values: activations, float [pictures, units].
        named: whether a picture asks for the concept, bool [pictures].

    Raises:
        ValueError: no picture with the concept, or none without it.

    Source: B. Kim et al., "Interpretability beyond feature attribution: testing with concept activation vectors",
    ICML 2018, section 3.2.
    """
    if not named.any() or named.all():
        raise wrong_value("directions", "a concept that some pictures ask for and others do not", int(named.sum()))
    centred = values - values.mean(0)
    covariance = centred.T @ centred / len(values)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-300
    return np.asarray(np.linalg.solve(covariance + ridge * np.eye(len(covariance)), centred.T @ (named - named.mean())))
