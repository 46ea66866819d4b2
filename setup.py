"""What pyproject.toml cannot say: where the packages and their data lie. Nothing is compiled."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["diffexplain_fast", "diffexplain_fast.*"]), "diffexplain_fast.kernels"],
    # kernels/ itself has no __init__.py: on the path it would replace Hugging Face's package of that name.
    package_dir={"diffexplain_fast.kernels": "kernels/fused"},
    package_data={
        "diffexplain_fast": ["py.typed"],
        "diffexplain_fast.report": ["templates/*"],
        "diffexplain_fast.tinyworld": ["weights/**/*"],
    },
)
