"""What ``benchmarks.tune`` tries: for each kernel a grid of configurations, and calls at Stable Diffusion 1.5's shapes.

The first candidate of each kernel is what it has today.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from diffexplain_fast.kernels import attention, geglu, group_norm_silu, interleave, layer_norm
from diffexplain_fast.kernels.configs import CONFIGS, Config
from torch import Tensor

from benchmarks.op_cases import SHAPES, Shape


class Candidate(NamedTuple):
    """One way to launch a kernel."""

    config: Config
    fusion: bool = False  # contract a * b + c
    constants: Mapping[str, Any] = {}  # of the kernel's module, such as the number of programs


class Case(NamedTuple):
    """One kernel at one shape."""

    entry: str  # name in ``CONFIGS``
    module: ModuleType
    kernels: tuple[str, ...]  # that are timed: the entry's own, and others whose work follows from its blocks
    shape: Shape
    candidates: list[Candidate]
    call: Callable[[torch.device], Callable[[], object]]  # makes tensors, and returns a call of the launcher

    @property
    def label(self) -> str:
        """The shape as tables show it."""
        return "x".join(map(str, self.shape))


Row = tuple[dict[str, int], int, int]


def _grid(
    entry: str, rows: Iterable[Row], *constants: Mapping[str, Any], always: Mapping[str, Any] | None = None
) -> list[Candidate]:
    """Return today's configuration with and without fusion, then each row with each set of constants.

    Args:
        entry: of the table of configurations.
        rows: blocks, warps and stages.
        constants: sets of constants of the kernel's module; none for those that it has.
        always: constants of every candidate.
    """
    today, always = CONFIGS[entry][0], always or {}
    sets = [{**always, **each} for each in constants or ({},)]
    tried = [Candidate(Config(*row), False, each) for row, each in itertools.product(rows, sets)]
    first = Candidate(today, False, always)
    return [first, first._replace(fusion=True), *(one for one in tried if one != first)]


def _blocks(first: str, second: str, *rows: tuple[int, int, int, int]) -> list[Row]:
    return [({f"BLOCK_{first}": a, f"BLOCK_{second}": b}, warps, stages) for a, b, warps, stages in rows]


def _random(device: torch.device, *shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return random numbers; on the CPU, where kernels are only compiled, any numbers."""
    make = torch.randn if device.type == "cuda" else torch.empty
    made = make(shape, device=device, dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made


_PARTIAL = _blocks(
    "P", "C",
    (16, 64, 4, 1), (16, 64, 2, 1), (32, 64, 4, 1), (32, 64, 2, 1), (32, 64, 8, 1), (64, 64, 8, 1), (128, 64, 8, 1),
    (8, 64, 1, 1), (8, 64, 2, 1), (8, 128, 4, 1), (16, 128, 4, 1), (16, 128, 8, 1), (32, 128, 8, 1), (8, 256, 8, 1),
    (4, 256, 4, 1), (64, 64, 16, 1), (16, 32, 1, 1), (64, 32, 4, 1),
)  # fmt: skip
_LAST = _blocks(
    "P", "C",
    (32, 64, 4, 1), (16, 64, 4, 1), (16, 64, 2, 1), (8, 64, 2, 1), (32, 64, 8, 1), (8, 128, 4, 1), (16, 128, 8, 1),
    (16, 128, 4, 1), (4, 256, 4, 1), (8, 64, 1, 1), (4, 128, 2, 1), (32, 64, 2, 1), (8, 256, 8, 1),
)  # fmt: skip
_WHOLE: list[Row] = [
    ({"BLOCK_E": elements}, warps, 1)
    for elements, warps in ((4096, 16), (4096, 8), (8192, 16), (1024, 4), (2048, 4), (8192, 8))
]
_WHOLE_SIDE = 32  # of the largest image that is tried with one launch
_COMBINE: list[Row] = [({}, warps, 1) for warps in (1, 2, 8)]


def _group_norm() -> list[Case]:
    def forward(shape: Shape) -> Callable[[torch.device], Callable[[], object]]:
        def made(device: torch.device) -> Callable[[], object]:
            x, weight, bias = _random(device, *shape), _random(device, shape[1]), _random(device, shape[1])
            return lambda: group_norm_silu.group_norm_silu_fwd(x, None, None, weight, bias, 32, 1e-5, True)

        return made

    def backward(shape: Shape) -> Callable[[torch.device], Callable[[], object]]:
        def made(device: torch.device) -> Callable[[], object]:
            x, dy, weight, bias = (_random(device, *size) for size in (shape, shape, shape[1:2], shape[1:2]))
            mean, rstd = (_random(device, shape[0], 32, dtype=torch.float32).abs() for _ in "mr")
            return lambda: group_norm_silu.group_norm_silu_bwd(dy, x, None, None, weight, bias, mean, rstd, 32, True)

        return made

    name, programs = "group_norm_silu", [{"_PROGRAMS": 1056}, {"_PROGRAMS": 2112}]
    folded, apart = {"_WHOLE": 0, "_FOLDED": 2**30}, {"_WHOLE": 0, "_FOLDED": 0}
    made = []
    for shape in [*SHAPES["gpu"][name][:3], (2, 1280, 8, 8)]:
        for way, call in (("bwd", backward(shape)), ("fwd", forward(shape))):
            partial, combine, last = (f"{name}_{way}_{stage}kernel" for stage in ("partial_", "combine_", ""))
            made += [
                Case(entry, group_norm_silu, kernels, shape, _grid(entry, rows, *constants, always=always), call)
                for entry, kernels, rows, constants, always in (
                    (f"{name}_partial", (partial, last), _PARTIAL, programs, folded),
                    (f"{name}_{way}_folded", (last,), _LAST, (), folded),
                    (f"{name}_{way}", (last,), _LAST, (), apart),
                    (f"{name}_combine", (combine,), _COMBINE, (), apart),
                )
            ]
            if shape[2] <= _WHOLE_SIDE:
                tried = _grid(f"{name}_whole", _WHOLE, always={"_WHOLE": 2**30})
                made.append(Case(f"{name}_whole", group_norm_silu, (f"{name}_whole_{way}_kernel",), shape, tried, call))
    return made


def _layer_norm() -> list[Case]:
    def call(shape: Shape, way: str) -> Callable[[torch.device], Callable[[], object]]:
        def made(device: torch.device) -> Callable[[], object]:
            x, weight, bias = _random(device, *shape), _random(device, shape[1]), _random(device, shape[1])
            if way == "fwd":
                return lambda: layer_norm.layer_norm_fwd(x, weight, bias, 1e-5)
            dy, (mean, rstd) = _random(device, *shape), _random(device, 2, shape[0], dtype=torch.float32)
            return lambda: layer_norm.layer_norm_bwd(dy, x, weight, mean, rstd)

        return made

    warps = ((512, 1), (1024, 4), (512, 2), (1024, 2), (1024, 8), (2048, 4), (2048, 8), (4096, 8), (4096, 16), (256, 1))
    made = []
    for shape, way in itertools.product(SHAPES["gpu"]["layer_norm"][:3], ("bwd", "fwd")):
        entry = f"layer_norm_{way}"
        tried = [Candidate(Config({}, count), False, {"_TILES": {entry: tile}}) for tile, count in warps]
        today = [Candidate(CONFIGS[entry][0])]
        made.append(Case(entry, layer_norm, (f"{entry}_kernel",), shape, today + tried, call(shape, way)))
    return made


def _geglu() -> list[Case]:
    def call(shape: Shape, way: str) -> Callable[[torch.device], Callable[[], object]]:
        def made(device: torch.device) -> Callable[[], object]:
            h, dy = _random(device, *shape), _random(device, shape[0], shape[1] // 2)
            return (lambda: geglu.geglu_fwd(h)) if way == "fwd" else (lambda: geglu.geglu_bwd(dy, h))

        return made

    rows = _blocks("R", "D", (8, 256, 8, 1), (16, 64, 4, 1), (2, 256, 4, 1), (4, 256, 8, 1), (8, 128, 4, 1),
                   (1, 256, 2, 1), (1, 512, 4, 1), (2, 256, 2, 1))  # fmt: skip
    return [
        Case("geglu", geglu, (f"geglu_{way}_kernel",), shape, _grid("geglu", rows), call(shape, way))
        for shape in SHAPES["gpu"]["geglu"][:3]
        for way in ("fwd", "bwd")
    ]


def _interleave() -> list[Case]:
    def call(shape: Shape, way: str) -> Callable[[torch.device], Callable[[], object]]:
        n, channels, height, width = shape

        def made(device: torch.device) -> Callable[[], object]:
            parts, y = (
                _random(device, n, 4 * channels, height, width),
                _random(device, n, channels, 2 * height, 2 * width),
            )
            return (
                (lambda: interleave.interleave_fwd(parts)) if way == "fwd" else (lambda: interleave.interleave_bwd(y))
            )

        return made

    rows = _blocks("P", "C", (64, 64, 4, 1), (4, 256, 2, 1), (4, 512, 4, 1), (8, 256, 4, 1), (2, 1024, 4, 1))
    return [
        Case(
            "interleave", interleave, (f"interleave_{way}_kernel",), shape, _grid("interleave", rows), call(shape, way)
        )
        for shape in SHAPES["gpu"]["upsample_conv"]
        for way in ("fwd", "bwd")
    ]


_ATTEND = {
    "fwd": _blocks(
        "M", "N",
        (128, 128, 8, 2), (128, 64, 4, 3), (64, 64, 4, 3), (64, 128, 4, 2), (128, 32, 4, 3), (128, 64, 8, 4),
        (64, 64, 4, 2), (128, 16, 4, 2), (128, 16, 8, 2), (64, 16, 4, 2), (64, 64, 8, 2), (64, 32, 4, 2),
    ),
    "dq": _blocks(
        "M", "N",
        (128, 64, 4, 2), (64, 64, 4, 2), (64, 64, 4, 3), (128, 128, 8, 2), (128, 32, 4, 3), (128, 64, 8, 3),
        (64, 32, 4, 3), (64, 128, 8, 2), (64, 64, 8, 2), (64, 16, 4, 2), (64, 32, 4, 2),
    ),
    "dk_dv": _blocks(
        "M", "N",
        (64, 64, 4, 2), (64, 64, 4, 3), (32, 128, 8, 3), (128, 64, 8, 2), (32, 64, 4, 3), (64, 128, 4, 2),
        (64, 128, 8, 3), (128, 128, 8, 2), (32, 64, 4, 2), (16, 64, 4, 2), (32, 128, 4, 2),
    ),
    "text_dq": _blocks("M", "N", (64, 64, 8, 1), (64, 64, 4, 1), (32, 64, 4, 1), (128, 64, 8, 1), (64, 64, 8, 2)),
    "short": _blocks(
        "M", "N",
        (64, 128, 8, 2), (64, 128, 4, 2), (32, 128, 4, 2), (32, 128, 8, 3), (64, 128, 8, 3), (16, 128, 4, 2),
        (128, 128, 8, 2),
    ),
}  # fmt: skip


def _attention(*shapes: Shape) -> list[Case]:
    def call(shape: Shape, way: str) -> Callable[[torch.device], Callable[[], object]]:
        queries, keys, columns = shape

        def made(device: torch.device) -> Callable[[], object]:
            q, k, v = (_random(device, 2, n, 8 * columns).unflatten(-1, (8, columns)) for n in (queries, keys, keys))
            if way == "fwd":
                return lambda: attention.attention_fwd(q, k, v, columns**-0.5)
            o, do = (torch.ones_like(q) for _ in "od")
            lse = torch.full((2, 8, queries), 8.0, device=device)
            return lambda: attention.attention_bwd(do, q, k, v, o, lse, columns**-0.5)

        return made

    made = []
    for shape in shapes:
        few = ("short",), ("text_dq", "dk_dv")
        of_text = (kinds for kinds in few if attention.entry(kinds[0], shape[2], False) in CONFIGS and shape[1] <= 128)
        for kind in ("fwd", *next(of_text, ("dq", "dk_dv"))):
            entry = attention.entry(kind, shape[2], False)
            names = ("attention_fwd_kernel",) if kind == "fwd" else (f"attention_bwd_{kind}_kernel",)
            tried = [one for one in _grid(entry, _ATTEND[kind]) if not one.fusion]
            made.append(Case(entry, attention, names, shape, tried, call(shape, kind)))
    return made


CASES = {
    "group_norm": _group_norm(),
    "layer_norm": _layer_norm(),
    "attention": _attention((4096, 77, 40), (1024, 77, 80), (256, 77, 160)),
    "geglu": _geglu(),
    "interleave": _interleave(),
    "self_attention": _attention((4096, 4096, 40), (1024, 1024, 80)),
}
"""Name for ``--only`` to its cases, most valuable first."""
