"""Compile every kernel for NVIDIA GPUs without one: run as a program, because the interpreter must not be asked for.

Writes one line for each kernel: blocks, registers, bytes spilled, bytes of shared memory, and the units it uses.

Usage: python tests/kernels/triton/compiled.py CAPABILITY DTYPE (tf32 | exact | wide) CASE..., where wide is exact with
offsets of 64 bits.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from drconv.kernels.triton import convolution, infer, launch  # noqa: F401
from drconv.layers import DRConv2d
from tests.kernels.cases import Case, make
from tests.kernels.triton.small import call

WARP = 32
TYPES = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int32: "i32",
    torch.int64: "i64",
}
CASES = [
    Case("pointwise", kernel=(1, 1), padding=(0, 0), regions=8, channels=64, out_channels=96, layout="channels_last"),
    Case("ragged", kernel=(1, 1), padding=(0, 0), channels=37, out_channels=70),
    Case("3x3", channels=32, out_channels=32, groups=2, stride=(2, 1)),
    Case("depthwise", channels=64, out_channels=64, groups=64, regions=8, layout="channels_last"),
]


class Compiler:
    """Takes the place of a launch: compiles what would be launched, once for each kind of arguments."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.done: set[str] = set()

    def __call__(self, kernel: Any, programs: int, arguments: tuple[Any, ...], meta: dict[str, Any]) -> None:
        options = {name: meta[name] for name in ("num_warps", "num_stages") if name in meta}
        constants = {name: value for name, value in meta.items() if name not in options}
        signature, hints = dict.fromkeys(constants, "constexpr"), {}
        for place, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
            if isinstance(value, torch.Tensor):
                signature[name] = f"*{TYPES[value.dtype]}"
            elif value is None or value == 1:  # as Triton specialises them at a launch
                signature[name], constants[name] = "constexpr", value
            else:
                signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if isinstance(value, torch.Tensor) or (signature[name] != "constexpr" and value % 16 == 0):
                hints[(place,)] = [["tt.divisibility", 16]]
        kind = str((kernel.__module__, kernel.__name__, signature, constants, hints))
        if kind in self.done:
            return
        self.done.add(kind)
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=hints)
        made = triton.compile(source, target=GPUTarget("cuda", self.capability, WARP), options=options)
        name = f"{kernel.__module__.split('.')[-1]}.{kernel.__name__}"
        sys.stdout.write(f"{name} {described(made, constants)}\n")


@contextmanager
def pretended_interpreter() -> Iterator[None]:
    """Let the choice of a backend believe that the CPU will do, which it does where nothing runs."""
    os.environ["TRITON_INTERPRET"] = "1"
    assert not launch.is_interpreted()  # all are imported, `infer` too, so that it is too late to interpret them
    try:
        yield
    finally:
        del os.environ["TRITON_INTERPRET"]


def described(made: Any, constants: dict[str, Any]) -> str:
    """Return resources of a kernel as the assembler has counted them."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    blocks = " ".join(f"{n}={constants[n]}" for n in ("PRECISION", "WIDE", "ROWS", "OUTS", "INS") if n in constants)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    used = " ".join(word for word in said.stdout.split() if word.startswith(("REG:", "STACK:")))
    units = " ".join(unit for unit in ("wgmma", "mma.sync", "cp.async") if unit in made.asm["ptx"])
    return f"{blocks} {used} SHARED:{made.metadata.shared} {units}"


def compile_all(capability: int, dtype: torch.dtype, names: list[str], size: tuple[int, int]) -> None:
    """Compile what a forward and backward pass of the cases would launch."""
    launch.start = Compiler(capability)
    for case in CASES:
        if case.name in names:
            problem = make(replace(case, size=size), dtype)
            told, tensors = call(problem), (problem.input, problem.region_filters)
            mask = convolution.guided_mask(problem.guided_feature)
            convolution.forward(told, *tensors, mask, problem.bias)
            convolution.backward(told, problem.grad_output, *tensors, mask, (True, True, True))
    if "layer" in names:
        for generator in ("pooled", "basis"):
            layer = DRConv2d(64, 96, 1, filter_generator=generator, backend="triton").to(dtype)
            with torch.no_grad(), pretended_interpreter():
                layer(torch.randn(2, 64, 14, 14, dtype=dtype).contiguous(memory_format=torch.channels_last))


if __name__ == "__main__":
    capability, dtype, how, *names = sys.argv[1:]
    torch.backends.cuda.matmul.allow_tf32 = how == "tf32"
    if how == "wide":
        launch._INDEX_LIMIT = 0
    compile_all(int(capability), getattr(torch, dtype), names or [*(case.name for case in CASES), "layer"], (40, 36))
