"""The plan of the house as tables: ranks of rooms, doors between them, and budgets. Change the plan here."""

PACKAGE = "diffexplain_fast"
RANKS = {
    **dict.fromkeys(
        ("errors", "environment", "lazy", "records", "targets", "stats", "file_systems", "storage", "public_names"), 0
    ),
    **dict.fromkeys(("result_folder", "results", "runs", "tinyworld", "kernels"), 1),
    "ops": 2,
    "models": 3,
    "engine": 4,
    **dict.fromkeys(("evidence", "recipe"), 5),
    "methods": 6,
    "api": 7,
    "measuring": 8,
    "report": 9,
    "cli": 10,
}
FLOORS = ("engine", "measuring", "methods")
"""Rooms whose folders are rooms of their own, such as ``engine/lean``, with the rank of the floor."""
LAZY_DOOR = ("results/drawn.py", "report/writing.py")
"""``.plot()`` and ``.report()`` of a result: the one lazy arrow upward, and the one that may close a circle."""
FACES = ("__init__.py", "public_names.py", "tinyworld/__init__.py", "tinyworld/recipe/__init__.py")
"""Files that only publish names of other rooms, from anywhere; only a face imports a face."""
LAZY = "lazy.py"
"""What imports names at first use, for faces and for a file whose name has moved."""

ANY = ""
"""In ``DOORS``: every room that the ranks allow."""
DOORS = {
    "api": {"explainer": ANY, "one_call": ANY},
    "cli": {},
    "engine": {
        "accelerated": ANY,
        "checkpointing": "engine",
        "checks": "api cli",
        "float16": "engine",
        "gradients": ANY,
        "reference": "engine",
        "sampler": ANY,
        "scheduler_names": ANY,
        "schedules": "engine api",
        "search": "engine",
        "settings": "engine",
    },
    "engine/fast": {"engine": "engine"},
    "engine/graphs": {
        "agreement": "engine",
        "function": ANY,
        "policy": "engine",
        "recorder": "engine",
        "recording": "engine",
    },
    "engine/lean": {
        "decoder": "measuring",
        "levels": "engine",
        "modules": "engine",
        "protocols": "engine",
        "savings": "engine",
        "unet": "engine measuring",
    },
    "engine/memory": {
        "costs": "engine measuring",
        "counting": "methods measuring",
        "flop": "measuring",
        "host": "engine",
        "plan": "engine measuring cli",
        "planner": "engine",
        "resident": "engine methods",
        "tape": "engine",
        "workspaces": "measuring",
    },
    "evidence": {
        "calibration": "methods api",
        "concepts": ANY,
        "drawing": "api",
        "evaluation": "methods",
        "eyes": "methods api",
        "identity": "methods",
        "known_truth": "methods",
        "perturb": "methods",
        "phrases": "methods api",
        "pool": "methods api",
        "problem": "methods api measuring",
        "readout": "methods api",
        "recorded": "methods api",
        "scores": "methods",
        "seeds": "methods",
    },
    "kernels": dict.fromkeys(
        ("attention", "geglu", "group_norm_silu", "guided_step", "interleave", "layer_norm"), "ops"
    ),
    "measuring": {"estimate": "cli"},
    "measuring/bench": {
        **dict.fromkeys(("budgets", "compare", "report", "workloads"), "cli"),
        **dict.fromkeys(("rivals", "rows"), "cli measuring"),
    },
    "measuring/profile": {
        **dict.fromkeys(("collect", "dtypes", "iteration"), "cli"),
        **dict.fromkeys(("families", "memory"), "report"),
        "profile": "cli report",
        "roofline": "report measuring",
    },
    "methods": {},
    "methods/discovery": {"discover": "api", "options": "api cli", "question": "api"},
    "methods/diffexplainer": {"explain": "api", "loss": "measuring", "options": ANY, "reserve": "api"},
    "models": {
        "classifier": ANY,
        "conditioning": "evidence measuring",
        "frozen": ANY,
        "labels": "methods",
        "loading": ANY,
        "pipeline": ANY,
        "text_to_image": "engine",
        "xl": "engine methods",
        "public": "measuring",
        "watch": "engine",
    },
    "ops": {
        "__init__": "engine",
        **dict.fromkeys(("_autocast", "_autograd", "_register", "raw"), "engine"),
        **dict.fromkeys(("attention", "group_norm_silu", "guided_step", "linear_frozen", "upsample_conv"), "engine"),
        "conv2d_frozen": "engine measuring",
        "doctor": "cli",
        "resize_normalize": "models evidence",
    },
    "recipe": {"__init__": "tinyworld", "captioner": "evidence", "data": "evidence", "making": ANY},
    "report": {"explanation": "cli", "profile_page": "cli", "writing": ANY},
    "results": {
        "audit": ANY,
        "audit_rows": "methods report cli",
        "drawn": "report",
        "explanation": ANY,
        "truth": "models methods",
    },
    "runs": {"checkpoint": ANY, "progress": ANY, "shared_units": "evidence"},
    "stats": {
        "cells": "methods results",
        "decisions": "methods api",
        "design": "methods",
        "effects": "methods results",
        "generator": "methods results",
        "instruments": "methods",
        "intervals": ANY,
        "multiplicity": "methods",
        "pairs": "methods",
    },
    "targets": {"__init__": ANY, "base": "evidence", "classes": "evidence", "neurons": "models", "outputs": ANY},
    "tinyworld": {"grammar": "recipe evidence", "render": "recipe", "store": ANY, "words": "recipe evidence"},
}
"""Room -> its files that other rooms may import -> the rooms or floors that may. A room of one file is its own door."""

BLIND = ("api", "evidence", "methods")
"""Rooms that know neither backends nor schedulers."""
FILE_LINES, FUNCTION_LINES, INIT_LINES, METHOD_LINES, SETUP_LINES, KERNEL_LINES = 300, 50, 40, 150, 80, 400
MEASURING = (
    "diffexplain_fast/measuring/**/*.py",
    "benchmarks/*.py",
    "diffexplain_fast/report/profile_*.py",
    *(f"diffexplain_fast/cli/{command}.py" for command in ("bench", "profile", "estimate")),
)
"""All files that measure, and show what was measured."""
MEASURING_LINES = 4982
"""At most so many lines in these files; may only be lowered."""
ANY_IN_ANNOTATIONS = 210
"""At most so many ``Any`` in annotations of the package; may only be lowered."""
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
OTHER_TESTS = ("architecture", "benchmarks", "csrc", "kernels")
"""Folders of tests for what lies outside of the package's own folder."""
HEAVY = ("triton", "diffusers", "transformers", "timm", "torchvision")
IMPORT_SECONDS = 2.0
