"""Workers of Ray that draw the pictures of a pool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.environment import ranks
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.pool import Crew, Unit, drawn, pool_identity
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import JsonObject
from diffexplain_fast.runs.ray_workers import Actors, RayWorkers


class Drawer:
    """Draws units of a pool in a process of its own.

    Args:
        make: function of a device that returns a pipeline.
        device: "cpu" or "cuda".
        options: of the sampler.
        seed: of the start latents.
        identity: of the pool; pictures of another one would be of another pool.
        threads: processors that torch uses, because their number decides the last bits on the CPU.
    """

    def __init__(
        self,
        make: Callable[[str], object],
        device: str,
        options: SamplerOptions,
        seed: int,
        identity: JsonObject,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        pipeline = load_pipeline(make(device))
        self._drawing = Drawing(pipeline, DifferentiableSampler.from_pipe(pipeline, **options), seed)
        got = pool_identity(self._drawing)
        if differing := sorted(key for key in identity.keys() | got if identity.get(key) != got.get(key)):
            raise wrong_value("ray", "workers with the same pipeline", f"another {' and '.join(differing)} in a worker")

    def make(self, *unit: object) -> bytes:
        """Return the pictures of a unit as a PNG file."""
        pipeline = self._drawing.pipeline
        with frozen(pipeline.unet, pipeline.vae, *pipeline.text_encoders):
            return drawn(self._drawing, Unit(*unit))  # type: ignore[arg-type]


def checked_ray(given: object) -> RayWorkers | None:
    """Return where workers run.

    Args:
        given: an address, ``RayWorkers``, or None for no workers.

    Raises:
        TypeError: something else.
    """
    if given is None or isinstance(given, RayWorkers):
        return given
    if not isinstance(given, str):
        raise wrong_type("ray", '"auto", the address of a cluster, RayWorkers, or None', given)
    return RayWorkers(given)


@contextmanager
def crew_of(ray: RayWorkers | None, drawing: Drawing, options: SamplerOptions) -> Iterator[Crew | None]:
    """Yield what draws units in workers, or None without workers.

    Of several processes that a launcher has started, only the first one has workers. The others wait for the pictures
    of its workers, and draw what is left when these have ended.

    Args:
        ray: where workers run.
        drawing: what they have to draw like.
        options: of the drawing's sampler.

    Raises:
        ImportError: Ray is not installed.
        ValueError: a pipeline on a GPU that cannot be sent; see ``Actors``.
    """
    if ray is None:
        yield None
        return
    device = torch.device(drawing.pipeline.device).type
    if ray.make is None and device != "cpu":
        wanted = "RayWorkers(address, make) for a pipeline on a GPU, with a function of a device that returns it"
        raise wrong_value("ray", wanted, "no make")
    if ranks().rank > 0:
        yield lambda units: ()
        return
    make, threads = ray.make or _Sent(drawing.pipeline), torch.get_num_threads()
    arguments = (make, device, options, drawing.seed, pool_identity(drawing), threads)
    with Actors(ray.address, Drawer, arguments, device != "cpu", threads) as actors:
        yield actors.made


class _Sent:
    """The pipeline of the caller, as it is."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def __call__(self, device: str) -> Pipeline:
        return self._pipeline
