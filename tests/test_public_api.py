"""What `import drconv` offers, and how light it is."""

import subprocess
import sys
from types import ModuleType

import pytest

import drconv
import drconv.analysis


def test_every_public_name_is_there() -> None:
    for name in drconv.__all__:
        assert getattr(drconv, name) is not None
    assert set(dir(drconv)) == set(drconv.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = drconv.nothing


def test_importing_the_package_imports_no_torch_and_layers_nothing_else() -> None:
    code = (
        "import sys, drconv; assert 'torch' not in sys.modules; drconv.DRConv2d; assert 'torch' in sys.modules\n"
        "assert not {'fvcore', 'matplotlib', 'rich'} & set(sys.modules), 'what layers do not need'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_counting_imports_cleanly_where_deprecation_warnings_are_errors() -> None:
    """fvcore's own import raises some; what torch's import raises is not ours to judge, so it comes first."""
    code = (
        "import warnings, drconv, drconv.layers, drconv.ops\n"
        "warnings.simplefilter('error', DeprecationWarning)\n"
        "assert drconv.count_flops.__name__ == 'count_flops'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_name_of_a_lazy_package_is_a_module() -> None:
    # Importing a module sets its name in the package, where it would hide a function of that name.
    for name in drconv.analysis.__all__:
        assert not isinstance(getattr(drconv.analysis, name), ModuleType), name
