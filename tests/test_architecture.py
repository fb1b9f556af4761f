"""Who may import whom: reads the imports of every file and holds them against the rules of the house."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path.relative_to(ROOT) for package in ("drconv", "drconv_cli") for path in (ROOT / package).rglob("*.py")
)

# package -> packages of ours that it may import, besides itself.
LEAVES = {"drconv.errors", "drconv.registry", "drconv.report", "drconv.version"}
MAY_IMPORT = {
    "drconv.errors": set(),
    "drconv.version": set(),
    "drconv.registry": {"drconv.errors"},
    "drconv.report": {"drconv.errors"},
    "drconv.atomic_write": {"drconv.errors"},
    "drconv.checks": {"drconv.errors"},
    "drconv.kernels": {"drconv.checks", *LEAVES},
    "drconv.ops": {"drconv.kernels", "drconv.checks", *LEAVES},
    "drconv.layers": {"drconv.ops", "drconv.kernels", "drconv.checks", *LEAVES},
    "drconv.models": {"drconv.layers", "drconv.ops", "drconv.atomic_write", "drconv.checks", *LEAVES},
    "drconv.analysis": {
        "drconv.layers",
        "drconv.ops",
        "drconv.kernels",
        "drconv.checks",
        "drconv.table_html",
        *LEAVES,
    },
    "drconv.viz": {"drconv.analysis", "drconv.ops", *LEAVES},
    "drconv.table_html": {"drconv.report"},
    "drconv.regions": {"drconv.viz", "drconv.analysis", "drconv.models", "drconv.table_html", *LEAVES},
    "drconv.training": {
        "drconv.viz",
        "drconv.analysis",
        "drconv.models",
        "drconv.layers",
        "drconv.ops",
        "drconv.atomic_write",
        "drconv.checks",
        *LEAVES,
    },
    "drconv": {"drconv.version"},
    "drconv_cli.printable": set(),
    "drconv_cli.render": {"drconv_cli.printable", *LEAVES},
    "drconv_cli.output": {"drconv_cli.printable", "drconv_cli.render", *LEAVES},
    "drconv_cli.conversion": set(),
    "drconv_cli.options": {"drconv_cli.conversion", "drconv_cli.output", "drconv_cli.render", *LEAVES},
    "drconv_cli.target": {
        "drconv_cli.conversion",
        "drconv_cli.output",
        "drconv.layers",
        "drconv.models",
        "drconv.analysis",
        *LEAVES,
    },
    "drconv_cli.region_model": {"drconv_cli.output", "drconv_cli.target", "drconv.models"},
    "drconv_cli.sweep": {"drconv_cli.conversion", "drconv.layers", "drconv.models", *LEAVES},
    "drconv_cli.profiled": {
        "drconv_cli.output",
        "drconv_cli.sweep",
        "drconv_cli.target",
        "drconv.models",
        "drconv.analysis",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.stopping": {"drconv_cli.output"},
    "drconv_cli.trained": {
        "drconv_cli.printable",
        "drconv_cli.conversion",
        "drconv_cli.output",
        "drconv.models",
        "drconv.training",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.schemas": set(),
    "drconv_cli.images": LEAVES,
    "drconv_cli.rows": LEAVES,
    "drconv_cli.workers": set(),
    "drconv_cli.ahead": set(),
    "drconv_cli.pictures": {"drconv_cli.output", "drconv.analysis", "drconv.regions", "drconv.viz", *LEAVES},
    "drconv_cli.keeping": {
        "drconv_cli.pictures",
        "drconv_cli.target",
        "drconv_cli.workers",
        "drconv.regions",
        *LEAVES,
    },
    "drconv_cli.preview": {
        "drconv_cli.output",
        "drconv_cli.pictures",
        "drconv_cli.workers",
        "drconv.analysis",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.redrawing": {"drconv_cli.output", "drconv_cli.pictures", "drconv.regions", *LEAVES},
    "drconv_cli.drawing": {
        "drconv_cli.ahead",
        "drconv_cli.output",
        "drconv_cli.pictures",
        "drconv_cli.target",
        "drconv.models",
        "drconv.analysis",
        "drconv.regions",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.clips": {
        "drconv_cli.drawing",
        "drconv_cli.images",
        "drconv_cli.output",
        "drconv_cli.region_model",
        "drconv_cli.render",
        "drconv_cli.rows",
        "drconv.analysis",
        "drconv.regions",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.commands": {
        "drconv_cli.clips",
        "drconv_cli.drawing",
        "drconv_cli.images",
        "drconv_cli.keeping",
        "drconv_cli.options",
        "drconv_cli.output",
        "drconv_cli.preview",
        "drconv_cli.profiled",
        "drconv_cli.redrawing",
        "drconv_cli.region_model",
        "drconv_cli.render",
        "drconv_cli.rows",
        "drconv_cli.schemas",
        "drconv_cli.stopping",
        "drconv_cli.sweep",
        "drconv_cli.target",
        "drconv_cli.trained",
        "drconv_cli.workers",
        "drconv.models",
        "drconv.analysis",
        "drconv.regions",
        "drconv.training",
        "drconv.viz",
        *LEAVES,
    },
    "drconv_cli.main": {"drconv_cli.commands", "drconv_cli.output", *LEAVES},
    "drconv_cli.__main__": {"drconv_cli.main"},
    "drconv_cli": set(),
}
# third-party package -> the only places that may import it.
ONLY_IN = {
    "typer": ("drconv_cli",),
    "rich": ("drconv_cli",),
    "matplotlib": ("drconv.viz", "drconv.regions.image_regions", "drconv_cli.pictures"),
    "PIL": ("drconv.viz", "drconv.regions", "drconv.training"),
    "fvcore": ("drconv.analysis.flops",),
    "av": ("drconv.viz.video",),
    "kornia": ("drconv.training.augment",),
    "datasets": ("drconv.training.hub",),
    "huggingface_hub": ("drconv.training.hub",),
    "triton": ("drconv.kernels.triton",),
    "safetensors": ("drconv.models.checkpoint", "drconv.models.weights", "drconv.training.state"),
    "scipy": (
        "drconv.analysis.matching",
        "drconv.analysis.order",
        "drconv.analysis.shapes",
        "drconv.training.plane",
    ),
    "sklearn": ("drconv.analysis.agreement",),
    "jinja2": ("drconv.viz.page.template",),
    "markupsafe": ("drconv.viz.page.template",),
}
LATE = (
    "drconv_cli.clips",
    "drconv_cli.commands",
    "drconv_cli.drawing",
    "drconv_cli.keeping",
    "drconv_cli.pictures",
    "drconv_cli.preview",
    "drconv_cli.profiled",
    "drconv_cli.redrawing",
    "drconv_cli.region_model",
    "drconv_cli.sweep",
    "drconv_cli.target",
    "drconv_cli.trained",
    "drconv_cli.workers",
)
WITHOUT_TORCH = ("drconv.errors", "drconv.registry", "drconv.report", "drconv.version", "drconv_cli.render")


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def home(module: str) -> str:
    """Return the longest entry of the rules that a module belongs to."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in MAY_IMPORT:
            return ".".join(parts[:length])
    raise AssertionError(f"{module} has no place in the rules; add it to MAY_IMPORT")


def imports(path: Path) -> list[tuple[str, bool, bool]]:
    """Return (module, inside a function, under TYPE_CHECKING) for every import of a file."""
    found: list[tuple[str, bool, bool]] = []

    def visit(node: ast.AST, inside: bool, typing: bool) -> None:
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                found.append((full if is_module else str(node.module), inside, typing))
        for child in ast.iter_child_nodes(node):
            visit(child, inside, typing)

    visit(ast.parse((ROOT / path).read_text()), False, False)
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_rules(path: Path) -> None:
    module = module_name(path)
    own = home(module)
    for imported, inside, typing in imports(path):
        top = imported.split(".")[0]
        if top in ("drconv", "drconv_cli"):
            if module == "drconv" and typing:
                continue  # the lazy package names its public parts for type checkers
            target = home(imported)
            assert target == own or target in MAY_IMPORT[own], f"{module} imports {imported}"
        for package, places in ONLY_IN.items():
            if top == package:
                assert module.startswith(places), f"{module} imports {imported}"
                assert module != "drconv.kernels.triton", "the table of backends must be there without Triton"
        if module.startswith(WITHOUT_TORCH):
            assert top not in ("torch", "numpy"), f"{module} imports {imported}"
        if inside:
            # Late imports keep `drconv --help` quick; elsewhere they hide a cycle.
            assert module.startswith(LATE), f"{module}: import in a function"


def test_the_rules_have_no_cycle() -> None:
    done: set[str] = set()

    def visit(package: str, above: tuple[str, ...]) -> None:
        assert package not in above, " -> ".join((*above, package))
        if package not in done:
            for target in MAY_IMPORT[package]:
                visit(target, (*above, package))
            done.add(package)

    for package in MAY_IMPORT:
        visit(package, ())
    assert done == set(MAY_IMPORT)


def test_no_file_is_a_drawer_for_anything() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common", "misc")]


def test_the_library_never_prints() -> None:
    """Also not through the logging of a warning: nothing of ours writes to a stream but the CLI's output."""
    for path in FILES:
        if path.parts[0] == "drconv":
            calls = [n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.Call)]
            names = {ast.unparse(call.func) for call in calls}
            assert not names & {"print", "sys.stdout.write", "sys.stderr.write", "warnings.warn"}, path
