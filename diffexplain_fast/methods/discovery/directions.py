"""Directions in the space of a layer's units: principal components, concept activation vectors, and given vectors."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value

_RIDGE = 0.1
"""Of the variance of a unit; keeps a concept activation vector finite where there are more units than pictures."""


Given = int | Sequence[str] | Mapping[str, Sequence[float]]
"""A number of principal components, names of concepts, or names of vectors."""


def check_directions(given: object, units: int, named: np.ndarray, concepts: Sequence[str]) -> None:
    """Refuse what are no directions, before a classifier is asked.

    Args:
        given: see ``Given``.
        units: of the layer.
        named: whether the pictures of the half that chooses ask for a concept, bool [pictures, concepts].
        concepts: names of the concepts.

    Raises:
        TypeError: something else.
        UnknownNameError: no such concept.
        ValueError: none, more components than units, a vector of another length or without a direction, or a concept
            that all pictures ask for, or none.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        most = min(units, len(named) - 1)
        if not 1 <= given <= most:
            raise wrong_value("directions", f"1 to {most} components", given)
    elif isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        raise wrong_type("directions", "a number of components, names of concepts, or a dict of vectors", given)
    elif not given:
        raise wrong_value("directions", "at least one", "none")
    elif isinstance(given, Mapping):
        for name, vector in given.items():
            _check_vector(str(name), vector, units)
    else:
        for concept in given:
            if concept not in concepts:
                raise unknown_name("directions", str(concept), concepts)
            asking = named[:, list(concepts).index(concept)]
            if not asking.any() or asking.all():
                raise wrong_value(
                    "directions", "a concept that some pictures ask for and others do not", int(asking.sum())
                )


def _check_vector(name: str, vector: object, units: int) -> None:
    wanted = f"a vector of {units} finite numbers, not all 0"
    try:
        numbers = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise wrong_type(f"directions, {name}", wanted, vector) from error
    size = np.linalg.norm(numbers)
    if numbers.shape != (units,) or not np.isfinite(size) or size == 0:
        raise wrong_value(f"directions, {name}", wanted, list(numbers.shape))


def chosen_directions(
    given: Given, values: np.ndarray, named: np.ndarray, concepts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return the directions that a user means, by their names; each has length 1.

    Args:
        given: see ``Given``.
        values: activations of the half of the pictures that chooses, float [pictures, units].
        named: whether each of them asks for a concept, bool [pictures, concepts].
        concepts: names of the concepts.

    Raises:
        TypeError, UnknownNameError, ValueError: see ``check_directions``.
    """
    check_directions(given, values.shape[1], named, concepts)
    if isinstance(given, int):
        return _components(given, values)
    if isinstance(given, Mapping):
        found = {name: np.asarray(vector, dtype=np.float64) for name, vector in given.items()}
    else:
        places = {concept: list(concepts).index(concept) for concept in given}
        found = {f"CAV {concept}": concept_vector(values, named[:, place]) for concept, place in places.items()}
    return {name: vector / np.linalg.norm(vector) for name, vector in found.items()}


def _components(count: int, values: np.ndarray) -> dict[str, np.ndarray]:
    rows = np.linalg.svd(values - values.mean(0), full_matrices=False)[2][:count]
    # The sign of a component is free: the largest weight is made positive.
    return {f"PCA {i + 1}": row * np.sign(row[np.abs(row).argmax()]) for i, row in enumerate(rows)}


def concept_vector(values: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return a concept activation vector: the normal of a linear classifier between pictures with and without it.

    The classifier is ridge regression of the label, which is Fisher's discriminant with a shrunk covariance.

    Args:
        values: activations, float [pictures, units].
        named: whether a picture asks for the concept, bool [pictures]; some do and others do not.

    Source: B. Kim et al., "Interpretability beyond feature attribution: testing with concept activation vectors",
    ICML 2018, section 3.2.
    """
    centred = values - values.mean(0)
    covariance = centred.T @ centred / len(values)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-300
    return np.asarray(np.linalg.solve(covariance + ridge * np.eye(len(covariance)), centred.T @ (named - named.mean())))
