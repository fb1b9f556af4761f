"""Put the compiled kernels into a wheel for this platform, when DRCONV_BUILD_NATIVE=1 asks for one (`make wheel`).

Without it, a wheel is for any platform, and the kernels are compiled on the user's machine at first use.
"""

import importlib.util
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeKernels(BuildHookInterface):  # type: ignore[misc]
    """Compile before the wheel is written, and name the platform in its tag."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to the files of a standard wheel; an editable one is left alone."""
        if os.environ.get("DRCONV_BUILD_NATIVE") != "1" or version != "standard":
            return
        folder = Path("drconv/kernels/native")
        build = _load(Path(self.root) / folder / "build.py")
        self.made = tempfile.TemporaryDirectory()
        compiler, _ = build.find_compiler()
        build.compile_kernels(compiler, Path(self.made.name))
        built = Path(self.made.name) / build.LIBRARY
        build_data["force_include"][str(built)] = str(folder / build.LIBRARY)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _load(path: Path) -> Any:
    """Load one file of the package without the package, which needs PyTorch."""
    spec = importlib.util.spec_from_file_location("drconv_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
