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
    **dict.fromkeys(("measuring", "prediction"), 8),
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
    "api": {"explainer": ANY},
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
        "levels": "engine prediction",
        "modules": "engine",
        "protocols": "engine",
        "savings": "engine",
        "unet": "engine measuring",
    },
    "engine/memory": {
        "costs": "engine measuring prediction",
        "counting": "methods measuring prediction",
        "flop": "measuring prediction",
        "host": "engine",
        "plan": "engine measuring cli prediction",
        "planner": "engine",
        "resident": "engine methods",
        "tape": "engine",
        "workspaces": "measuring",
    },
    "evidence": {
        "evaluation": "methods",
        "identity": "methods",
        "perturb": "methods",
        "problem": "methods api measuring",
        "recorded": "methods api",
        "scores": "methods",
        "seeds": "methods",
    },
    "kernels": {
        **dict.fromkeys(("attention", "geglu", "group_norm_silu", "guided_step", "interleave", "layer_norm"), "ops"),
        "configs": "prediction",
    },
    "measuring": {"estimate": "cli prediction"},
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
        "public": "measuring prediction",
        "watch": "engine",
    },
    "ops": {
        "__init__": "engine",
        **dict.fromkeys(("_autocast", "_autograd", "raw"), "engine"),
        "_register": "engine prediction",
        **dict.fromkeys(("attention", "guided_step"), "engine prediction"),
        **dict.fromkeys(("group_norm_silu", "linear_frozen", "upsample_conv"), "engine"),
        "conv2d_frozen": "engine measuring",
        "doctor": "cli",
        "resize_normalize": "models evidence",
    },
    "prediction": dict.fromkeys(("compiled", "predict", "rates"), "cli"),
    "recipe": {"__init__": "tinyworld", "making": ANY},
    "report": {"explanation": "cli", "profile_page": "cli", "writing": ANY},
    "results": {"drawn": "report", "explanation": ANY, "truth": "models methods"},
    "runs": {"checkpoint": ANY, "progress": ANY},
    "stats": {"intervals": ANY},
    "targets": {"__init__": ANY, "base": "evidence", "classes": "evidence", "neurons": "models", "outputs": ANY},
    "tinyworld": {"grammar": "recipe", "render": "recipe", "store": ANY, "words": "recipe"},
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
OTHER_TESTS = ("architecture", "benchmarks", "csrc", "docs", "kernels")
"""Folders of tests for what lies outside of the package's own folder."""
HEAVY = ("triton", "diffusers", "transformers", "timm", "torchvision")
IMPORT_SECONDS = 2.0
