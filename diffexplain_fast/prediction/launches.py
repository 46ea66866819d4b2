"""Every kernel that a computation launches on a GPU, traced on the meta device without running anything."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor
from torch._ops import OpOverload

from diffexplain_fast.engine.memory.counting import Counting, Options, Results
from diffexplain_fast.engine.memory.flop import Arguments, flop
from diffexplain_fast.ops._precompile import launches_of

_OURS, _TRITON = "diffexplain_fast::", "_triton"
_NO_KERNEL = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_unsafe_view", "detach")
_OVERWRITES = ("copy_", "_foreach_copy_", "fill_", "zero_")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "mv", "addmv")
_FAMILIES = {"geglu": "geglu", "guided_step": "pointwise", "interleave": "copy", "interleave_inner": "copy"}
_NORMS = ("native_group_norm", "native_layer_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")


class Launch(NamedTuple):
    """One kernel on the device.

    Attributes:
        family: "convolution", "product", "attention", "norm", "geglu", "pointwise" or "copy".
        name: of the operation or of the Triton kernel.
        flop: multiplications and additions of matrix units.
        bytes: that are read and written once.
        side: height of a convolution's image, columns of a head for attention, otherwise 0.
        rows: images of a convolution, queries of attention, otherwise 0.
        keys: keys of attention, otherwise 0.
    """

    family: str
    name: str
    flop: float
    bytes: int
    side: int = 0
    rows: int = 0
    keys: int = 0


class Launches(Counting):
    """Notes the launches of all operations on meta tensors while it is open, as a GPU with Triton would have them.

    Attributes:
        noted: the launches, in order.
        apart: whether a convolution's bias is a launch of its own, as in torch with cuDNN; a compiler fuses it.
    """

    apart = True

    def __init__(self) -> None:
        super().__init__(Results())
        self.noted: list[Launch] = []

    def run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation, and note its launches."""
        out = super().run(func, args, kwargs)
        name = func._schema.name
        if name.startswith(_OURS):
            self.noted += _of_ours(name.removeprefix(_OURS), func, args, kwargs, out)
        elif not is_free(func):
            self.noted.append(_of_torch(name.removeprefix("aten::"), func, args, kwargs, out))
            if self.apart and name == "aten::convolution" and args[2] is not None:
                size = 2 * sum(tensor.nbytes for tensor in tensors_in([out]))
                self.noted.append(Launch("pointwise", "convolution_bias", 0.0, size))
        return out


def is_free(func: OpOverload) -> bool:
    """Whether an operation launches nothing: a view of its argument, or memory without contents."""
    if func._schema.name.removeprefix("aten::") in _NO_KERNEL:
        return True
    aliases = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _of_torch(name: str, func: OpOverload, args: Arguments, kwargs: Options, out: object) -> Launch:
    tensors = [*tensors_in(args), *tensors_in(list(kwargs.values())), *tensors_in([out])]
    cost, size = float(flop(func, args, kwargs, out) or 0), _moved(func, args, kwargs, out)
    if "convolution" in name:
        image = next(tensor for tensor in tensors_in([out]))
        return Launch("convolution", name, cost, size, image.shape[2], image.shape[0])
    if "scaled_dot_product" in name:
        *_, query, key = tensors[:3] if "backward" in name else tensors[:2]
        return Launch("attention", name, cost, size, query.shape[-1], query.shape[2], key.shape[2])
    if name in _PRODUCTS:
        return Launch("product", name, cost, size)
    if any(norm in name for norm in _NORMS):
        return Launch("norm", name, 0.0, size)
    copies = name in ("clone", "copy_", "_to_copy", "cat", "constant_pad_nd", "repeat", "contiguous", "fill_", "zero_")
    return Launch("copy" if copies else "pointwise", name, 0.0, size)


def _moved(func: OpOverload, args: Arguments, kwargs: Options, out: object) -> int:
    """Return the bytes that an operation reads and those that it writes, each once.

    A result that is given to be written over, as ``out`` or to ``copy_``, is not read.
    """
    given = [*zip(func._schema.arguments, args, strict=False)]
    given += [(each, kwargs[each.name]) for each in func._schema.arguments if each.name in kwargs]
    changed = [value for each, value in given if each.alias_info is not None and each.alias_info.is_write]
    overwrites = func._schema.name.removeprefix("aten::") in _OVERWRITES
    read = [
        value for each, value in given if not (each.is_out or (overwrites and any(value is one for one in changed)))
    ]
    return sum(tensor.nbytes for tensor in tensors_in([*read, *([out] if tensors_in([out]) else changed)]))


def _of_ours(name: str, func: OpOverload, args: Arguments, kwargs: Options, out: object) -> list[Launch]:
    """Return the launches of one of our ops: those that its own Triton launcher makes on these sizes."""
    op, way = name.removesuffix(_TRITON).rsplit("_", 1)
    found = launches_of(func, args, kwargs)
    if not op.startswith("attention"):
        family = _FAMILIES.get(op, "norm")
        return [Launch(family, each.kernel, 0.0, each.bytes) for each in found]
    cost, (query, key) = float(flop(func, args, kwargs, out) or 0), args[1:3] if way == "bwd" else args[:2]
    heavy = [each for each in found if "combine" not in each.kernel]
    return [
        Launch("attention", each.kernel, cost / len(heavy), each.bytes, query.shape[-1], query.shape[1], key.shape[1])
        if each in heavy
        else Launch("norm", each.kernel, 0.0, each.bytes)
        for each in found
    ]


def tensors_in(values: Sequence[object]) -> list[Tensor]:
    """Return the tensors at any depth of some lists."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def trace(function: Callable[[], object]) -> list[Launch]:
    """Return the launches of a function of meta tensors."""
    with Launches() as live:
        function()
    return live.noted


def by_family(launches: Sequence[Launch]) -> Mapping[str, int]:
    """Return the number of launches of each family."""
    counted: dict[str, int] = {}
    for launch in launches:
        counted[launch.family] = counted.get(launch.family, 0) + 1
    return counted
