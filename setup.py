"""Settings that pyproject.toml cannot hold: folders of packages and data, and the optional compiled kernels in csrc.

DIFFEXPLAIN_FAST_BUILD: auto (all that the machine can build), 0 (nothing) or 1 (everything, or fail).
TORCH_CUDA_ARCH_LIST: chips to compile for.
"""

import pathlib
import sys

from setuptools import find_packages, setup

sys.path.insert(0, str(pathlib.Path(__file__).parent / "csrc"))
from compile_csrc import BuildStable, extensions

compiled = extensions()
setup(
    packages=[
        *find_packages(include=["diffexplain_fast", "diffexplain_fast.*"]),
        "diffexplain_fast.kernels",
        "diffexplain_fast.csrc",
    ],
    # kernels/ itself has no __init__.py: on the path it would replace Hugging Face's package of that name.
    # csrc travels with the package, so that the first use can compile it where an installation did not.
    package_dir={"diffexplain_fast.kernels": "kernels/fused", "diffexplain_fast.csrc": "csrc"},
    package_data={
        "diffexplain_fast": ["py.typed"],
        "diffexplain_fast.csrc": ["*.h", "cpu/*", "cuda/*"],
        "diffexplain_fast.measuring": ["*/*.toml"],
        "diffexplain_fast.report": ["templates/*"],
        "diffexplain_fast.tinyworld": ["weights/**/*", "planted/**/*"],
    },
    ext_modules=compiled,
    cmdclass={"build_ext": BuildStable},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if compiled else {},
)
