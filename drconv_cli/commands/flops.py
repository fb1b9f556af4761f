"""`drconv flops`: multiply-adds and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drconv.errors import CountError
from drconv_cli.options import (
    CheckpointOpt,
    ConvertOpt,
    CountingDeviceOpt,
    ForceOpt,
    FormatOpt,
    InputOpt,
    JsonOpt,
    ModelArg,
    OutputOpt,
    SizeOpt,
    apart,
    asked_size,
    check_pictures,
    comma_list,
)
from drconv_cli.output import Destination, emit, envelope, notice, progress, write_file
from drconv_cli.sweep import model_builder, parse_sweep
from drconv_cli.target import Target, open_target

if TYPE_CHECKING:
    from drconv.analysis import CrossCheck, FlopReport, SweepReport

__all__ = ["flops"]

Convention = Literal["paper", "released"]


def flops(
    model: ModelArg = None,
    checkpoint: CheckpointOpt = None,
    convert: ConvertOpt = None,
    size: SizeOpt = None,
    input: InputOpt = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, help="Show the tree of modules down to this level.", show_default="all layers"),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(
            "--include",
            metavar="KIND,...",
            help="Also a column for each of these, which are no MAdds: norm, pool, resize, bias, activation, "
            "elementwise.",
        ),
    ] = None,
    convention: Annotated[
        Convention,
        typer.Option(
            "--convention", help="MAdds as in the papers, or by the rules of the counter in the released DRConv code."
        ),
    ] = "paper",
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Backend whose work the column 'executed' counts; `drconv env` lists them.",
            show_default="the one that each call chooses",
        ),
    ] = None,
    backward: Annotated[
        bool, typer.Option("--backward", help="Count the backward pass, too, in a column of its own.")
    ] = False,
    memory: Annotated[
        int | None,
        typer.Option("--memory", metavar="BATCH", min=1, help="Also estimate the memory of a batch of so many images."),
    ] = None,
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="Compare three counts of every layer; exit 1 if any differ.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if an operator with arithmetic in it has no formula.")
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="NAME=V1,V2,...",
            help="Count over a grid of sizes, or of keywords of the model or of --convert; repeatable.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the sweep: .png, .svg or .pdf.", show_default=False),
    ] = None,
    device: CountingDeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Count multiply-adds (MAdds) and parameters per image, layer by layer.

    Dynamic layers are split into their stages (pool, generator, guide, convolution). Multiply-adds are those of
    convolutions and linear layers, as in the papers: in theory, with one filter per position, and as the backend
    executes them.
    """
    asked, kinds, axes = asked_size(size, input), comma_list(include), parse_sweep(sweep)
    destination = Destination.of(format, as_json, output, force)
    details = {"--depth": depth, "--include": kinds, "--backward": backward, "--memory": memory, "--strict": strict}
    other = {"--convention": convention != "paper", "--backend": backend, "--sweep": axes}
    apart("--cross-check", cross_check, {**details, **other, "--device meta": device == "meta"})
    apart("--sweep", axes, {**details, "--checkpoint": checkpoint})
    apart("--sweep size=...", "size" in axes, {"--size": size})
    apart("--device meta", device == "meta", {"--include": kinds, "--strict": strict, "--checkpoint": checkpoint})
    if plot is not None and not axes:
        raise typer.BadParameter("--plot draws a sweep; give --sweep, too")
    check_pictures(plot, output, force)
    from drconv.analysis import cross_check as count_three_ways
    from drconv.analysis import environment

    target = open_target(model, checkpoint, device, convert=convert, allow_meta=True)
    shape = asked or target.input_size
    engine = "dispatch" if target.device.type == "meta" else "fvcore"
    options = {"include": kinds, "backend": backend, "backward": backward, "engine": engine}
    arguments = {**target.arguments, "input_size": list(shape), "convention": convention, **options}
    arguments |= {"depth": depth, "memory": memory, "cross_check": cross_check, "strict": strict}
    arguments |= {"sweep": axes, "plot": plot}

    def show(report: Any, warnings: Sequence[str] = ()) -> None:
        data = envelope("flops", arguments, environment(target.device), report, list(warnings))
        emit(report, data, destination)

    if axes:
        swept = _sweep(target, convert, axes, shape, convention, options)
        if plot is not None:
            _draw(swept, target.title, plot, force)
        show(swept)
    elif cross_check:
        checked = count_three_ways(target.model, shape)
        show(checked)
        _check_agreement(checked)
    else:
        report = _count(target, shape, convention, options, memory)
        show(report if depth is None else _tree(report, depth), report.warnings)
        if strict and report.uncounted:
            listed = ", ".join(f"{name} x{times}" for name, (times, _) in report.uncounted.items())
            share = f"about {report.uncounted_share:.2%} of the MAdds"
            raise CountError(f"--strict: no formula for {listed} ({share}); see drconv.register_counter")


def _counter(convention: Convention) -> Any:
    from drconv.analysis import count_flops, count_released

    return count_flops if convention == "paper" else count_released


def _count(
    target: Target, shape: tuple[int, int, int], convention: Convention, options: dict[str, Any], memory: int | None
) -> FlopReport:
    from drconv.analysis import estimate_memory

    report: FlopReport = _counter(convention)(target.model, shape, **options)
    return report if memory is None else replace(report, memory=estimate_memory(target.model, shape, memory))


def _tree(report: FlopReport, depth: int) -> Any:
    from drconv.analysis import FlopTree

    return FlopTree(report, depth)


def _sweep(
    target: Target,
    convert: list[str] | None,
    axes: dict[str, list[Any]],
    shape: tuple[int, int, int],
    convention: Convention,
    options: dict[str, Any],
) -> SweepReport:
    from drconv.analysis import sweep_flops

    make, count = model_builder(target.name, convert, axes), _counter(convention)

    def build(**keywords: Any) -> Any:
        with target.device:
            return make(**keywords)

    with progress() as step:
        return sweep_flops(build, axes, shape, count=lambda m, s: count(m, s, **options), progress=step)


def _draw(report: SweepReport, name: str, path: Path, force: bool) -> None:
    from drconv.viz import sweep_figure

    data = BytesIO()
    sweep_figure(report, title=f"{name}: MAdds over {', '.join(report.axes)}").savefig(
        data, format=path.suffix[1:].lower()
    )
    write_file(path, data.getvalue(), force)
    notice(f"wrote {path}")


def _check_agreement(checked: CrossCheck) -> None:
    wrong = checked.disagreeing
    if wrong:
        x = wrong[0]
        known = "" if x.closed_form is None else f"{x.closed_form:,} in closed form, "
        raise CountError(
            f"the counts of {len(wrong)} of {len(checked.layers)} layers differ, first {x.name or 'the model itself'} "
            f"({x.type}): {known}{x.fvcore:,} by fvcore, {x.dispatch:,} by FlopCounterMode"
        )
