"""The modules that a fresh interpreter loads."""

import subprocess
import sys
from pathlib import Path

from tests.architecture.house import HEAVY, IMPORT_SECONDS, PACKAGE


def run_python(code: str, folder: Path) -> str:
    """Return the output of a fresh interpreter, started in a folder that is first on its path."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def heavy_imports(root: Path) -> list[str]:
    """Return modules that ``import diffexplain_fast`` must not load or start, and whether it takes too long."""
    code = (
        "import sys, time; began = time.perf_counter()\n"
        f"import {PACKAGE}\n"
        "seconds = time.perf_counter() - began\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "torch = sys.modules.get('torch')\n"
        "found += ['CUDA'] if torch is not None and torch.cuda.is_initialized() else []\n"
        f"found += [f'{{seconds:.1f}} s'] if seconds > {IMPORT_SECONDS} else []\n"
        f"assert {PACKAGE}.__file__.startswith({str(root)!r})\n"
        "print('\\n'.join(found))"
    )
    return run_python(code, root).splitlines()


def shadows_kernels(root: Path) -> bool:
    """Return whether ``import kernels`` from the root of the tree finds the tree's own folder as a package."""
    code = "import importlib.util as u; s = u.find_spec('kernels'); print(s.origin if s and s.origin else '')"
    return run_python(code, root).startswith(str(root))
