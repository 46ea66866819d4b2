"""``diffexplain-fast doctor``: installed libraries, devices, and the implementation of each op."""

from collections.abc import Mapping

from diffexplain_fast.cli import options
from diffexplain_fast.cli.json_line import print_json

_BACKEND = "fast for Stable Diffusion 1.x, 2.x, XL and tinyworld, else reference; a result says why"


def doctor(as_json: options.OneJson = False) -> None:
    """Show versions, devices and implementations.

    For the engine and for each op, it shows the implementation that runs on this machine, and why.
    """
    from diffexplain_fast.environment import default_device, device_record, versions
    from diffexplain_fast.ops.doctor import implementations, kernel_status

    record, ops = device_record(), implementations()
    if as_json:
        found = {"versions": versions(), **record, "device": str(default_device()), "kernels": kernel_status()}
        print_json(found | {"tinyworld": _tinyworld(), "backend": _BACKEND, "ops": ops})
        return
    status = kernel_status()
    rows = [(name, version or "not installed") for name, version in versions().items()]
    rows += [("processor", record["cpu"]), ("threads", str(record["threads"]))]
    rows += [("GPU", ", ".join(record["cuda"]) or "none that torch can use"), ("device", str(default_device()))]
    rows += [*status.items(), ("tinyworld", _tinyworld()), ("backend", _BACKEND)]
    rows += [(row["op"], f"{row['implementation']}: {_shortened(row['reason'], status)}") for row in ops]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _shortened(reason: str, status: Mapping[str, str]) -> str:
    """Return the reason for an op's implementation, without what the lines of the kernels say already."""
    for kind, text in status.items():
        reason = reason.replace(text, f"see {kind}")
    return reason


def _tinyworld() -> str:
    """Return a text that says whether the shipped models are present and undamaged."""
    from diffexplain_fast.tinyworld.store import classifier_names

    try:
        return f"undamaged, classifiers {', '.join(classifier_names())}"
    except (OSError, ValueError) as error:
        return f"cannot be used: {error}"
