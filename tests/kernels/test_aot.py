"""Every kernel compiled for every chip: the committed table belongs to these sources, and no kernel in it spills."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import triton
from diffexplain_fast.kernels.configs import CONFIGS, Config

from benchmarks import aot, aot_cases
from tests.interpreter import without_interpreter

ROOT = Path(__file__).parents[2]
OTHER_TRITON = "the committed table is of Triton {}, not of {}"


def compiled(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run ``benchmarks.aot`` in another process, because this one may have the interpreter's kernels."""
    environment = without_interpreter() | {"TRITON_CACHE_DIR": str(folder / "cache")}
    output = folder / "aot.json"
    command = [sys.executable, "-m", "benchmarks.aot", "--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=590)
    return done, output


def test_the_committed_table_follows_from_these_sources() -> None:
    committed = aot.committed_table()
    if committed["triton"] != triton.__version__:
        pytest.skip(OTHER_TRITON.format(committed["triton"], triton.__version__))
    changed = [case.name for case in aot.outdated(committed["kernels"])]
    assert not changed, f"run make aot and commit its table; changed: {', '.join(changed)}"


@pytest.mark.slow
def test_three_kernels_at_random_compile_to_what_the_table_says(tmp_path: Path) -> None:
    done, output = compiled(tmp_path, "--random", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    now, committed = json.loads(output.read_text()), aot.committed_table()
    assert len(now["kernels"]) == 3
    if now["triton"] == committed["triton"]:  # another compiler has other figures; the limits above hold for all
        assert now["kernels"] == {name: committed["kernels"][name] for name in now["kernels"]}


LOWER = """
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend
from benchmarks.aot import OPS, source

target = GPUTarget("cuda", 90, 32)
backend = make_backend(target)
first = {case.kernel.__name__: case for op in reversed(OPS) for case in [*OPS[op]()][::-1]}
for case in first.values():
    read, options = source(case)
    parsed, context = backend.parse_options(options), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    read.make_ir(target, parsed, backend.get_codegen_implementation(parsed), backend.get_module_map(), context)
print(len(first))
"""


def test_every_kernel_passes_the_first_stage_of_the_compiler() -> None:
    """The interpreter accepts what the compiler refuses, such as a name of a loop that had another type before it."""
    command = [sys.executable, "-c", LOWER]
    done = subprocess.run(command, cwd=ROOT, env=without_interpreter(), capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len({case.kernel.__name__ for op in aot_cases.OPS.values() for case in op()})


def test_the_committed_table_is_complete() -> None:
    table = aot.committed_table()["kernels"]
    cases = [case for op in aot_cases.OPS.values() for case in op()]
    assert [case.name for case in cases] == list(table), "run make aot and commit its table"
    assert all(list(usage) == ["hash", *(f"sm_{chip}" for chip in aot.SHARED_LIMIT)] for usage in table.values())
    for case in cases:
        for chip in aot.SHARED_LIMIT:
            usage = aot.Usage(*table[case.name][f"sm_{chip}"])
            assert not aot.over_limit(case, chip, usage)
            exact = " fp32 " in case.name and not usage.tensor_core_instructions  # TF32 would cost three digits
            assert case.tensor_cores or exact or " fp32 " not in case.name


def test_every_configuration_is_a_case() -> None:
    compiled_configs = [case.config for op in aot_cases.OPS.values() for case in op()]
    assert all(config in compiled_configs for configs in CONFIGS.values() for config in configs)


def test_a_kernel_over_a_limit_is_found() -> None:
    case = aot_cases.Case("k", None, {}, {}, Config({}, 4), tensor_cores=True)
    assert len(aot.over_limit(case, 86, aot.Usage(255, 8, 100 * 1024, 0))) == 3
    assert aot.over_limit(case, 90, aot.Usage(255, 0, 100 * 1024, 2)) == []


def kernel_file(code: str) -> str:
    """Return a kernel file with a launcher, a constant and a kernel whose body is ``code``."""
    head = '"""Said."""\nimport triton\nSIZE = 4\n\n@triton.jit\ndef k(x):\n    """Said."""\n'
    return f"{head}    {code}\n\ndef launch():\n    pass\n"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (kernel_file("y = x  # said"), True),
        (kernel_file("y = x").replace("Said", "Told"), True),
        (kernel_file("y = x").replace("    pass", "    return 1"), True),
        (kernel_file("y = x + 1"), False),
        (kernel_file("y = x").replace("SIZE = 4", "SIZE = 8"), False),
    ],
    ids=["comment", "docstring", "launcher", "kernel", "constant"],
)
def test_the_hash_covers_compiled_code_but_not_prose(
    changed: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aot, "KERNELS", tmp_path)
    (tmp_path / "before_k.py").write_text(kernel_file("y = x"))
    (tmp_path / "after_k.py").write_text(changed)
    assert (aot.source_of("before_k") == aot.source_of("after_k")) is same
    aot.source_of.cache_clear()
    aot._tree.cache_clear()


def test_a_kernel_file_counts_with_those_that_it_imports() -> None:
    assert aot.with_imports("attention") == {"attention", "attention_text", "attention_tiles", "primitives"}
    assert aot.with_imports("geglu") == {"geglu"}


@pytest.mark.slow
@pytest.mark.parametrize("part", [("--op", "guided_step"), ("--chip", "90"), ("--random", "2")])
def test_compiling_a_part_does_not_replace_the_table(tmp_path: Path, part: tuple[str, str]) -> None:
    done, _ = compiled(tmp_path, *part, "--output", str(aot.RESULT))
    assert done.returncode == 2 and "committed table" in done.stderr
