"""The plan of the house as tables: ranks of rooms, doors between them, and budgets. Change the plan here."""

PACKAGE = "diffexplain_fast"
RANKS = {
    **dict.fromkeys(
        (
            *("errors", "environment", "lazy", "records", "targets", "stats", "file_systems", "storage"),
            *(
                "coloured",
                "endpoints",
                "given_files",
                "number_texts",
                "public_names",
                "quiet",
                "semantic_tree",
                "taxonomy",
                "views",
            ),
        ),
        0,
    ),
    **dict.fromkeys(("result_folder", "results", "runs", "tinyworld", "kernels"), 1),
    "ops": 2,
    "models": 3,
    "engine": 4,
    **dict.fromkeys(("editing", "evidence", "recipe"), 5),
    "methods": 6,
    "api": 7,
    **dict.fromkeys(("measuring", "prediction"), 8),
    "report": 9,
    "cli": 10,
    "__main__": 11,
}
FLOORS = ("engine", "measuring", "methods")
"""Rooms whose folders are rooms of their own, such as ``engine/lean``, with the rank of the floor."""
LAZY_DOOR = ("results/drawn.py", "report/writing.py")
"""``.plot()`` and ``.report()`` of a result: the one lazy arrow upward, and the one that may close a circle."""
FACES = (
    "__init__.py",
    "editing/__init__.py",
    "public_names.py",
    "tinyworld/__init__.py",
    "tinyworld/recipe/__init__.py",
)
"""Files that only publish names of other rooms, from anywhere; only a face imports a face."""
LAZY = "lazy.py"
"""What imports names at first use, for faces and for a file whose name has moved."""

ANY = ""
"""In ``DOORS``: every room that the ranks allow."""
DOORS = {
    "api": {"explainer": ANY, "maps": ANY, "one_call": ANY},
    "cli": {"entry": "__main__"},
    "editing": {
        "ddim": "methods api",
        "editors": "methods",
        "inversion": "methods",
        "latents": "methods api",
        "likelihood": "methods",
        "pictures": "methods api",
        "reconstruction": "api",
    },
    "engine": {
        "accelerated": ANY,
        "ancestral": "editing methods",
        "checkpointing": "engine",
        "checks": "api cli editing",
        "float16": "engine",
        "gradients": ANY,
        "options": "api evidence measuring cli",
        "reference": "editing engine",
        "repeated": "engine",
        "sampler": ANY,
        "scheduler_names": ANY,
        "schedules": "engine api",
        "search": "engine",
        "settings": "engine",
        "single": "engine editing evidence methods api",
    },
    "engine/fast": {"engine": "engine", "sums": "prediction", "trajectory": "prediction"},
    "engine/graphs": {
        "agreement": "engine",
        "function": ANY,
        "kernel_settings": "engine",
        "policy": "engine",
        "recorder": "engine",
        "recording": "engine",
    },
    "engine/lean": {
        "decoder": "prediction",
        "levels": "engine prediction",
        "modules": "engine",
        "protocols": "engine",
        "savings": "engine",
        "shelf": "engine",
        "unet": "engine prediction",
    },
    "engine/memory": {
        "costs": "engine measuring prediction",
        "counting": "engine methods measuring prediction",
        "flop": "engine measuring prediction",
        "host": "engine",
        "layout": "engine",
        "plan": "engine measuring cli prediction",
        "planner": "engine",
        "resident": "engine methods",
        "tape": "engine prediction",
        "workspaces": "prediction",
    },
    "evidence": {
        "calibration": "methods api",
        "candidates": "api",
        "concept_names": "methods",
        "concepts": ANY,
        "cost": "methods",
        "crew": "api",
        "drawing": "api",
        "evaluation": "methods",
        "eyes": "methods api",
        "identity": "methods cli",
        "known_truth": "methods",
        "disturbed": "methods",
        "perturb": "methods",
        "phrases": "methods api",
        "pool": "methods api",
        "problem": "methods api measuring",
        "readout": "methods api",
        "recorded": "methods api",
        "salient": "methods",
        "scores": "methods",
        "shipped": "methods api",
        "seeds": "methods editing",
    },
    "kernels": {
        **dict.fromkeys(("attention", "geglu", "group_norm_silu", "guided_step", "interleave", "layer_norm"), "ops"),
        "configs": "ops",
        "precompile": "ops",
    },
    "measuring": {"estimate": "cli"},
    "measuring/bench": {
        **dict.fromkeys(("budgets", "compare", "report", "workloads"), "cli"),
        **dict.fromkeys(("rivals", "rows"), "cli measuring"),
    },
    "measuring/profile": {
        **dict.fromkeys(("collect", "iteration"), "cli"),
        **dict.fromkeys(("counting", "events"), "report"),
        "profile": "report",
        "roofline": "report measuring",
    },
    "methods": {},
    "methods/discovery": {
        **dict.fromkeys(("screen", "discover", "drawn", "prepared", "question"), "api"),
        "options": "api cli",
    },
    "methods/photographs": dict.fromkeys(
        ("given", "intervened", "interventions", "photographs", "sentences", "tools"), "api"
    ),
    "methods/segments": {"segments": "api"},
    "methods/diffex": dict.fromkeys(("answers", "attribute", "gradcam", "gradient", "setup"), "api"),
    "methods/diffexplainer": {
        "explain": "api",
        "loss": "measuring",
        "options": ANY,
        "otherwise": "api",
        "reserve": "api",
    },
    "models": {
        "added_words": "methods",
        "attributes": "engine",
        "classifier": ANY,
        "conditioning": "editing evidence measuring methods",
        "fingerprint": "evidence",
        "frozen": ANY,
        "hooked": "methods",
        "image_text": ANY,
        "labels": "methods cli",
        "layers": "methods",
        "loading": ANY,
        "module_settings": "evidence",
        "pipeline": ANY,
        "preprocess": "api",
        "rewritten": "evidence",
        "text_to_image": "engine",
        "together": "api",
        "undisturbed": "api methods",
        "xl": "editing engine evidence methods",
        "public": "measuring prediction",
        "seeing": "evidence methods",
        **dict.fromkeys(("telling", "written"), "evidence"),
        "used": "engine",
        "watch": "editing engine methods",
        "wrapped": "engine",
    },
    "ops": {
        "__init__": "engine",
        "_autocast": "editing engine",
        **dict.fromkeys(("_autograd", "_register", "raw"), "engine"),
        "_constants": "models",
        "_precompile": "engine prediction",
        **dict.fromkeys(("attention", "guided_step"), "engine prediction"),
        **dict.fromkeys(("group_norm_silu", "linear_frozen", "upsample_conv"), "engine"),
        "conv2d_frozen": "engine measuring",
        "doctor": "cli",
        "resize_normalize": "models evidence",
    },
    "prediction": {**dict.fromkeys(("compiled", "predict", "rates"), "cli"), "parts": "measuring"},
    "recipe": {"__init__": "tinyworld", "data": "evidence", "making": ANY},
    "report": {"explanation": "cli", "profile_page": "cli", "writing": ANY},
    "results": {
        "attribution": ANY,
        "audit": ANY,
        "audit_rows": "methods report cli api",
        "decision": "cli report",
        "drawn": "report",
        "effects": "api cli methods report",
        "explanation": ANY,
        "named": "methods report",
        "photographs": "methods report cli",
        "pictures": "evidence report",
        "salient": "methods",
        "segments": "methods api",
        "told_apart": "api",
        "truth": "models methods recipe report cli",
    },
    "runs": {
        "bars": "api cli recipe",
        "callbacks": ANY,
        "checkpoint": ANY,
        "progress": ANY,
        "ray_workers": ANY,
        "shared_units": "evidence methods cli",
        "spending": "evidence methods",
    },
    "stats": {
        "asked": "methods results",
        "cells": "methods results",
        "clustered": "methods",
        "decisions": "methods api results",
        "design": "methods",
        "effects": "methods results",
        "told": "results",
        "exclusion": "methods",
        "generator": "methods results",
        "instruments": "methods",
        "intervals": ANY,
        "multiplicity": "methods results",
        "pairs": "methods",
        "named": "methods",
        "placebo": ANY,
        "regression": "methods",
        "shares": "methods results",
        "strata": "methods",
        "unit_scores": "methods",
        "words": "methods",
    },
    "targets": {
        "__init__": ANY,
        "base": "evidence methods",
        "classes": "evidence methods models",
        "neurons": "models methods",
        "outputs": ANY,
    },
    "tinyworld": {
        "grammar": "recipe evidence models",
        "low_rank": "models recipe",
        "render": "recipe",
        "rewording": "evidence",
        "store": ANY,
        "words": "recipe evidence",
    },
}
"""Room -> its files that other rooms may import -> the rooms or floors that may. A room of one file is its own door."""

BLIND = ("api", "evidence", "methods")
"""Rooms that know neither backends nor schedulers."""
FILE_LINES, FUNCTION_LINES, INIT_LINES, METHOD_LINES, SETUP_LINES, KERNEL_LINES = 300, 50, 40, 150, 80, 400
MEASURING = (
    "diffexplain_fast/measuring/**/*.py",
    "benchmarks/*.py",
    "diffexplain_fast/report/profile_*.py",
    *(f"diffexplain_fast/cli/{command}.py" for command in ("bench", "profile")),
)
"""All files that measure, and show what was measured."""
MEASURING_LINES = 4000
"""At most so many lines in these files; may only be lowered."""
ANY_IN_ANNOTATIONS = 28
"""At most so many ``Any`` in annotations of the package; may only be lowered."""
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
OTHER_TESTS = ("architecture", "benchmarks", "csrc", "docs", "kernels")
"""Folders of tests for what lies outside of the package's own folder."""
HEAVY = ("triton", "diffusers", "transformers", "timm", "torchvision")
IMPORT_SECONDS = 2.0
