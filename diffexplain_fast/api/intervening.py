"""Interventions of a user in an audit: on own pictures, on those of the pool, or on own pictures only."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from diffexplain_fast.api.picturing import read_pictures
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.readout import Readout, readout_of
from diffexplain_fast.methods.discovery.drawn import used_pictures
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.prepared import Prepared
from diffexplain_fast.methods.photographs.given import one_each
from diffexplain_fast.methods.photographs.intervened import Intervened, intervened, with_sentences
from diffexplain_fast.methods.photographs.interventions import (
    Intervention,
    check_functions,
    checked_interventions,
    paired_answers,
)
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.runs.progress import Progress, counter

Callback = Callable[[Progress], None] | None
_SIDEWAYS = (5, 6, 7, 8)
"""Marks of a camera that was turned by a quarter, in EXIF."""


@dataclass(frozen=True)
class Intervening:
    """Interventions of an audit, checked.

    Attributes:
        interventions: name to function; empty for none.
        clusters: of every own picture a number; pictures of one cluster are not independent. None for one each.
    """

    interventions: dict[str, Intervention]
    clusters: np.ndarray | None

    @classmethod
    def of(cls, interventions: object, clusters: object) -> "Intervening":
        """Check interventions.

        Args:
            interventions: see ``Explainer.audit``; None for none.
            clusters: a name or number for each own picture, in a list, an array or a tensor of one dimension; or None.
        """
        known = {} if interventions is None else checked_interventions(interventions)
        if clusters is None:
            return cls(known, None)
        listed = one_each(clusters)
        if listed is None:
            raise wrong_type("clusters", "a name or number for every picture of images, or None", clusters)
        return cls(known, np.unique([str(one) for one in listed], return_inverse=True)[1])

    def begin(self, prepared: Prepared, given: Tensor | None, callback: Callback) -> Intervened | None:
        """Return what interventions do to own pictures; without any, try each of them on a black picture.

        Args:
            prepared: what the audit asks, of which nothing is drawn yet.
            given: own pictures, or None.
            callback: receives a ``Progress``.

        Raises:
            ValueError: clusters that do not fit, an intervention that fails or, on own pictures, changes nothing.
        """
        if given is None:
            if self.clusters is not None:
                raise wrong_value("clusters", "None without images", "clusters")
            pool = prepared.question.pool
            check_functions(self.interventions, pool.as_pixels(pool.blank()))
            return None
        self._check_clusters(len(given))
        if not self.interventions:
            return None
        return self._measured(iter([given]), len(given), prepared.question.readout, prepared.options, callback)

    def add(self, audit: Audit, prepared: Prepared, begun: Intervened | None, callback: Callback) -> None:
        """Put rows of interventions into an audit, those of own pictures or, without any, of pictures of the pool.

        Args:
            audit: of generated pictures.
            prepared: what it has asked.
            begun: from ``begin``.
            callback: receives a ``Progress``.
        """
        if begun is not None:
            _put(audit, begun)
        elif self.interventions:
            count = int(audit.settings["pictures_used"])
            parts = used_pictures(prepared, count)
            weights = prepared.context.first(count).asked.weights  # own pictures have the user's distribution already
            readout, options = prepared.question.readout, prepared.options
            _put(audit, self._measured(parts, count, readout, options, callback, weights))

    def only(
        self,
        pipeline: Pipeline,
        classifier: Classifier,
        images: object,
        targets: object,
        options: AuditOptions,
        callback: Callback,
    ) -> Audit:
        """Return an audit of own pictures and interventions only, for which nothing is drawn.

        Args:
            pipeline: says the size of pictures of different sizes; pictures of one size keep it.
            classifier: is asked.
            images: see ``Explainer.audit``.
            targets: see ``Explainer.audit``.
            options: minimal effect and level.
            callback: receives a ``Progress``.
        """
        if images is None or not self.interventions:
            wanted = "images and interventions where pictures is 0, so that nothing is drawn"
            raise wrong_value("pictures", wanted, "neither" if images is None else "no interventions")
        began, pixels = time.perf_counter(), own_size(images, pipeline)
        self._check_clusters(len(pixels))
        readout = readout_of(classifier, targets, pixels[:1])
        found = self._measured(iter([pixels]), len(pixels), readout, options, callback)
        settings = {
            "minimal_effect": options.minimal_effect,
            "level": options.level,
            "control": options.control,
            "pictures": 0,
            "own_pictures": len(pixels),
            "classifier_fingerprint": classifier.fingerprint(),
            "output": classifier.output,
            "targets": list(readout.names),
            "seconds": time.perf_counter() - began,
            "versions": versions(),
            "device": device_record(),
        }
        audit = Audit(classifier.name, [], [], {}, settings)
        _put(audit, found)
        return audit

    def _check_clusters(self, count: int) -> None:
        if self.clusters is None:
            return
        if len(self.clusters) != count:
            raise wrong_value("clusters", f"{count}, one for every picture of images", len(self.clusters))
        if len(np.unique(self.clusters)) < 2:
            raise wrong_value("clusters", "at least two clusters of pictures", len(np.unique(self.clusters)))

    def _measured(
        self,
        parts: Iterator[Tensor],
        count: int,
        readout: Readout,
        options: AuditOptions,
        callback: Callback,
        weights: np.ndarray | None = None,
    ) -> Intervened:
        clusters, report = self.clusters, counter(callback, "interventions")
        paired = paired_answers(parts, readout, self.interventions, lambda done: report(done, count))
        own = np.arange(count) if clusters is None else clusters
        return intervened(paired, own, readout, options.minimal_effect, options.level, options.control, weights)


def own_size(images: object, pipeline: Pipeline) -> Tensor:
    """Return pictures as pixels in their own size, or in the pipeline's where they have several sizes.

    Args:
        images: see ``Explainer.audit``.
        pipeline: says the size, and where the pixels are put.
    """
    size = pipeline.image_size
    if isinstance(images, str | Path):
        images, _ = read_pictures(images)
    images = [images] if isinstance(images, Image.Image) else images
    if isinstance(images, Tensor) and images.ndim >= 3:
        size = (int(images.shape[-2]), int(images.shape[-1]))
    elif isinstance(images, Sequence) and all(isinstance(one, Image.Image) for one in images):
        sizes = {turned_size(one) for one in images}
        size = next(iter(sizes))[::-1] if len(sizes) == 1 else size
    return as_pixels(images, size, pipeline.device).to(pipeline.dtype)


def turned_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of a picture as it is read, after a turn that a camera has marked."""
    turned = False
    with suppress(OSError, ValueError):  # one that cannot be read is named where all are read
        turned = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return image.size[::-1] if turned else image.size


def _put(audit: Audit, found: Intervened) -> None:
    audit.rows = [*audit.rows, *found.rows]
    audit.settings["placebos_flagged"] = dict(found.flagged)
    audit.verdicts = with_sentences(audit.verdicts, found)
