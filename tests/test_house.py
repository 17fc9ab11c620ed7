"""The rules of the house, checked on every module, function bodies too: who may import whom, and what is done where."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from segsvc.plugins import PluginKind

ROOT = Path(__file__).parent.parent
MOST_LINES = 400

# The floors, from the ground up. A module imports from its own floor and from those below.
FLOORS = (
    ("types", "errors", "clock", "interrupts"),
    ("card", "operating_point", "settings", "logs", "plugins", "tables", "documents", "metrics_document", "ledger_documents",
     "improvement_documents", "event_documents", "job_documents", "imaging", "quality", "readahead"),
    ("models", "readers", "writers", "stores", "datasets"),
    ("segment", "loaded", "index_masks", "truth"),
    ("worker", "plan", "reach", "manifests", "inventory", "results", "views", "claims",
     "dataset_facts", "dataset_check", "versions"),
    ("runner", "pace", "stretch", "processes", "report", "report_charts", "run_report", "run_cost", "summary", "likeness",
     "exporting", "estimate", "diagnosis", "asking", "converting", "ledger", "training", "evaluation", "calibration",
     "packages", "assets", "exchange", "catalogue", "download", "pulling", "labels", "improving"),
    ("jobs",),
    ("review_ui",),
    ("cli",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
SURFACE = ("segsvc", "segsvc.__main__")  # the public names, and `python -m segsvc`: above all floors

# library: where it may be imported, as beginnings of modules' names
HOMES = {
    "torch": ("segsvc.models.", "segsvc.training.", "segsvc.exchange."),
    "torchvision": ("segsvc.models.", "segsvc.training.", "segsvc.exchange."),
    "segmentation_models_pytorch": ("segsvc.models.", "segsvc.training.", "segsvc.exchange."),
    "timm": ("segsvc.models.", "segsvc.training.", "segsvc.exchange.",
             "segsvc.packages"),  # packages: the names of ImageNet's classes
    "safetensors": ("segsvc.models.", "segsvc.training."),
    "huggingface_hub": ("segsvc.exchange.hub",),
    "onnx": ("segsvc.models.onnx", "segsvc.exchange.onnx"),
    "onnxruntime": ("segsvc.exchange.onnx",),
    "openvino": ("segsvc.models.",),
    "numba": ("segsvc.imaging.",),
    "llvmlite": ("segsvc.imaging.",),
    "boto3": ("segsvc.stores.s3", "segsvc.stores.s3.endpoint", "jobs.s3_events"),
    "botocore": ("segsvc.stores.s3", "segsvc.stores.s3.endpoint", "jobs.s3_events"),
    "yaml": ("jobs.rules",),
    "ray": ("jobs.",),
    "fastapi": ("jobs.api", "review_ui."),
    "starlette": ("jobs.api", "review_ui."),
    "uvicorn": ("segsvc.cli.", "review_ui."),
    "sqlite3": ("segsvc.ledger", "segsvc.diagnosis"),  # diagnosis: its release
    "pysqlite3": ("segsvc.ledger.engine",),
    "sqlalchemy": ("segsvc.ledger",),
    "alembic": ("segsvc.ledger",),
    "pg8000": ("segsvc.ledger",),
    "structlog": ("segsvc.logs",),
    "prometheus_client": ("review_ui.metrics",),
    "argon2": ("segsvc.ledger.users",),
    "click": ("segsvc.cli.",),
    "jinja2": ("segsvc.report", "segsvc.evaluation.report", "segsvc.calibration.report", "segsvc.improving.report",
               "review_ui."),
    "scipy": ("segsvc.quality.",),
    "pickle": ("segsvc.models.checkpoint",),
    "dill": (),
    "cloudpickle": (),
    "marshal": (),
    "shelve": (),
}
HEAVY = frozenset({"torch", "torchvision", "segmentation_models_pytorch", "timm", "safetensors", "openvino", "cv2", "PIL",
                   "tifffile", "imagecodecs", "simplejpeg", "boto3"})
# what runs code of others: where it may be called
DANGEROUS = {
    "torch.load": ("segsvc.models.checkpoint",), "torch.jit.load": (), "pickle.load": (), "pickle.loads": (),
    "pickle.Unpickler": (), "eval": (), "exec": (), "compile": (), "__import__": (), "os.system": (), "os.popen": (),
    "yaml.load": (), "numpy.load": (), "np.load": (), "joblib.load": (),
}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of ours: its dotted name and what is written in it."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The name that `FLOORS` knows it by."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "segsvc" and len(parts) > 1 else parts[0]


@cache
def modules() -> tuple[Module, ...]:
    paths = [path for package in ("segsvc", "jobs", "review_ui") for path in sorted((ROOT / package).rglob("*.py"))]
    found = []
    for path in paths:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text("utf-8"), str(path))))
    return tuple(found)


def only_for_types(tree: ast.Module) -> set[ast.AST]:
    """What stands below `if TYPE_CHECKING:` and is never executed."""
    guards = (node for node in ast.walk(tree)
              if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    return {inside for guard in guards for statement in guard.body for inside in ast.walk(statement)}


def imported(module: Module, *, executed: bool) -> Iterator[tuple[str, int]]:
    """The dotted names of all modules that it imports, and the line; with `executed`, not those for type checkers."""
    passed = only_for_types(module.tree) if executed else set()
    known = {each.name for each in modules()}
    for node in ast.walk(module.tree):
        if node in passed:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                pytest.fail(f"{module.path}:{node.lineno}: imports are absolute here")
            source = node.module or ""
            for alias in node.names:
                below = f"{source}.{alias.name}"
                yield (below if below in known else source), node.lineno


def room_of(name: str) -> str:
    return Module(name, ROOT, ast.Module([], [])).room


def ours(name: str) -> bool:
    return library_of(name) in ("segsvc", "jobs", "review_ui")


def library_of(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def shared_modules(kind: str) -> frozenset[str]:
    """Modules beside the plugins of a kind that all of them may use."""
    return getattr(importlib.import_module(f"segsvc.{kind}"), "NOT_PLUGINS", frozenset())


def is_plugin(name: str) -> bool:
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != "segsvc" or parts[1] not in [kind.value for kind in PluginKind]:
        return False
    return not parts[2].startswith("_") and parts[2] not in shared_modules(parts[1])


def within(name: str, homes: tuple[str, ...]) -> bool:
    return any(name == home.rstrip(".") or name.startswith(home.rstrip(".") + ".") for home in homes)


def named_call(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_every_module_has_its_floor() -> None:
    assert [module.name for module in modules() if module.name not in SURFACE and module.room not in FLOOR_OF] == []


def test_imports_go_down() -> None:
    wrong = []
    for module in modules():
        for name, line in imported(module, executed=False):
            if not ours(name) or module.name in SURFACE:
                continue
            # only the command line needs the surface: it shows the version
            if module.room != "cli" if name in SURFACE else FLOOR_OF[room_of(name)] > FLOOR_OF[module.room]:
                wrong.append(f"{module.path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_outside_of_the_command_line_the_library_knows_nothing_of_jobs_and_pages() -> None:
    wrong = [f"{module.name}:{line} imports {name}" for module in modules()
             for name, line in imported(module, executed=False)
             if (library_of(name) in ("jobs", "review_ui") and module.name.startswith("segsvc.") and module.room != "cli")
             or (name.startswith("review_ui") and module.name.startswith("jobs"))
             or (name == "jobs.api" and module.name.startswith("review_ui") and module.name != "review_ui.app")]
    assert wrong == []


def test_plugin_files_never_import_each_other() -> None:
    kinds = [kind.value for kind in PluginKind]
    wrong = []
    for module in modules():
        if module.room not in kinds:
            continue
        for name, line in imported(module, executed=False):
            if not ours(name):
                continue
            # what plugins of a kind share may open a store by its URI, as anyone may: by segsvc.stores, no plugin itself
            shared = not is_plugin(module.name) and name.startswith("segsvc.stores") and not is_plugin(name)
            other_kind = room_of(name) in kinds and room_of(name) != module.room and not shared
            other_plugin = is_plugin(name) and name != module.name
            if other_kind or other_plugin:
                wrong.append(f"{module.path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_a_plugin_imports_heavy_libraries_inside_its_functions() -> None:
    wrong = []
    for module in modules():
        top = ast.Module([node for node in module.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        if is_plugin(module.name):
            wrong += [f"{module.name}:{line} imports {name}" for name, line
                      in imported(Module(module.name, module.path, top), executed=True) if library_of(name) in HEAVY]
    assert wrong == []


def test_every_plugin_file_ends_in_its_plugin() -> None:
    wrong = [module.name for module in modules() if is_plugin(module.name)
             and not ast.unparse(module.tree.body[-1]).startswith("PLUGIN")]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module.name: {name for name, _ in imported(module, executed=True) if ours(name) and name != module.name}
             for module in modules() if module.name not in SURFACE}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            pytest.fail("a circle of imports: " + " -> ".join((*trail[trail.index(name):], name)))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_each_heavy_library_is_imported_only_where_it_lives() -> None:
    wrong = [f"{module.path.relative_to(ROOT)}:{line} imports {name}" for module in modules()
             for name, line in imported(module, executed=True)
             if library_of(name) in HOMES and not within(module.name, HOMES[library_of(name)])]
    assert wrong == []


def test_nothing_runs_code_of_others_but_the_reader_of_foreign_checkpoints() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            called = named_call(node)
            if called in DANGEROUS and not within(module.name, DANGEROUS[called]):
                wrong.append(f"{module.path.relative_to(ROOT)}:{node.lineno} calls {called}")
            if called.endswith((".extractall", ".extract")):
                wrong.append(f"{module.path.relative_to(ROOT)}:{node.lineno} calls {called}")
            if any(keyword.arg in ("shell", "allow_pickle", "weights_only") and ast.unparse(keyword.value) != expected
                   for keyword in node.keywords
                   for expected in ["True" if keyword.arg == "weights_only" else "False"]):
                wrong.append(f"{module.path.relative_to(ROOT)}:{node.lineno} calls {called} without its guard")
    assert wrong == []


def test_foreign_checkpoints_are_loaded_as_weights_only() -> None:
    calls = [node for module in modules() for node in ast.walk(module.tree)
             if isinstance(node, ast.Call) and named_call(node) == "torch.load"]
    assert calls
    assert all(any(keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords)
               for call in calls)


def test_nothing_is_validated_by_assert() -> None:
    wrong = [f"{module.path.relative_to(ROOT)}:{node.lineno}" for module in modules() for node in ast.walk(module.tree)
             if isinstance(node, ast.Assert)]
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    wrong = [f"{module.path.relative_to(ROOT)}:{node.lineno}" for module in modules() for node in ast.walk(module.tree)
             if isinstance(node, ast.Call) and named_call(node) in ("print", "sys.stdout.write", "sys.stderr.write")
             and module.room not in ("cli", "training") and module.name != "jobs.batch"]  # which prints run.json
    assert wrong == []


def test_no_module_is_longer_than_two() -> None:
    long = {str(module.path.relative_to(ROOT)): lines for module in modules()
            if (lines := len(module.path.read_text("utf-8").splitlines())) > MOST_LINES}
    assert long == {}


def test_modules_are_nouns_and_say_what_they_are() -> None:
    nothing = ("utils", "util", "helpers", "helper", "common", "misc")
    assert [module.name for module in modules() if module.path.stem in nothing] == []
    assert [module.name for module in modules() if module.tree.body and not ast.get_docstring(module.tree)] == []


def test_only_one_unit_of_work_and_the_edges_catch_everything() -> None:
    """A broad `except` hides faults: it stands where one image, one plugin or one command is held off from the rest,
    where a thread hands its error to another, and where a model is tried that may not convert."""
    allowed = {"segsvc.worker", "segsvc.cli.main", "segsvc.runner", "segsvc.plugins", "segsvc.models.openvino_runtime",
               "segsvc.stores.s3.listing", "segsvc.ledger.writer", "jobs.embedded"}
    wrong = [f"{module.path.relative_to(ROOT)}:{node.lineno}" for module in modules() for node in ast.walk(module.tree)
             if isinstance(node, ast.ExceptHandler)
             and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
             and module.name not in allowed and not raises_again(node)]
    assert wrong == []


def raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def test_the_rules_find_what_they_look_for() -> None:
    sample = ast.parse("import typing\nif typing.TYPE_CHECKING:\n    import torch\ndef f():\n    import ray.data\n"
                       "    from segsvc.readers import png\n    from segsvc.errors import ImageError\n")
    module = Module("segsvc.readers.jpeg", ROOT, sample)
    assert [name for name, _ in imported(module, executed=True)] == [
        "typing", "ray.data", "segsvc.readers.png", "segsvc.errors"]
    assert "torch" in [name for name, _ in imported(module, executed=False)]
    assert is_plugin("segsvc.readers.png")
    assert not is_plugin("segsvc.readers.limits")
    assert not is_plugin("segsvc.writers._rows")
    assert within("segsvc.ledger.tables", ("segsvc.ledger",))
    assert not within("segsvc.ledgers", ("segsvc.ledger",))
    assert FLOOR_OF[room_of("segsvc.cli.run")] > FLOOR_OF[room_of("segsvc.runner")] > FLOOR_OF[room_of("segsvc.types")]
