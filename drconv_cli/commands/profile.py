"""`drconv profile`: times against nn.Conv2d and against the naive way."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drconv.errors import RegressionError
from drconv_cli.options import (
    BackendOpt,
    CheckpointOpt,
    ConvertOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    InputOpt,
    JsonOpt,
    ModelArg,
    OutputOpt,
    SeedOpt,
    SizeOpt,
    apart,
    asked_size,
    check_pictures,
    comma_list,
    parse_share,
)
from drconv_cli.output import (
    SCHEMA,
    Destination,
    check_free,
    emit,
    envelope,
    notice,
    progress,
    read_json,
    write_file,
)
from drconv_cli.profiled import ProfiledLayer, ProfiledNetwork, Subject, threads_set
from drconv_cli.sweep import parse_sweep
from drconv_cli.target import open_target

if TYPE_CHECKING:
    from drconv.analysis import ProfileOptions, ProfileReport
    from drconv.analysis.profile import ProfileSweep

__all__ = ["profile"]

PassName = Literal["forward", "backward", "step"]
LayoutName = Literal["own", "NCHW", "channels_last", "both"]
ScopeName = Literal["module", "operator"]
OrderName = Literal["generator", "out-innermost", "torch"]
DtypeName = Literal["float32", "bfloat16", "float16", "float64"]


def profile(
    model: ModelArg = None,
    checkpoint: CheckpointOpt = None,
    convert: ConvertOpt = None,
    size: SizeOpt = None,
    input: InputOpt = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="KEY=VALUE,...",
            help="One DRConv2d instead of a network, such as in=96,out=96,size=14,kernel=1,regions=8.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch", "-b", min=1, help="Images per call.")] = 1,
    which: Annotated[PassName, typer.Option("--pass", help="What is timed; step is forward and backward.")] = "forward",
    scope: Annotated[
        ScopeName, typer.Option("--scope", help="With --layer: all of it, or the operator with filters given.")
    ] = "module",
    maps: Annotated[
        str,
        typer.Option(
            "--maps",
            metavar="uniform|blocky|salt|single|own|image:FILE",
            help="Regions of --layer; a network takes image:FILE as its input.",
            show_default="uniform; noise for a network",
        ),
    ] = "",
    occurring: Annotated[
        int | None,
        typer.Option(
            "--occurring", min=1, help="With --layer: regions that may occur in a sample.", show_default="all"
        ),
    ] = None,
    filter_order: Annotated[
        OrderName, typer.Option("--filter-order", help="With --scope operator: order of the filters in memory.")
    ] = "generator",
    backend: BackendOpt = None,
    naive: Annotated[bool, typer.Option("--naive/--no-naive", help="Time applying all filters, too.")] = True,
    layout: Annotated[
        LayoutName, typer.Option("--layout", help="Memory layout of the dynamic candidates; conv2d is timed in both.")
    ] = "own",
    every_layer: Annotated[
        bool, typer.Option("--every-layer", help="Time every layer, not one of each group of equal sizes.")
    ] = False,
    stages: Annotated[bool, typer.Option("--stages", help="Time the stages of each layer apart.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show times against the machine's peaks.")] = False,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Exactly so many rounds.", show_default="as noise demands")
    ] = None,
    target_noise: Annotated[
        str,
        typer.Option(
            "--target-noise", metavar="PERCENT", help="Half width of the 95 % interval of each median to stop at."
        ),
    ] = "2%",
    max_time: Annotated[float, typer.Option("--max-time", min=0.001, help="Seconds of rounds for each target.")] = 4.0,
    min_rounds: Annotated[int, typer.Option("--min-rounds", min=1, help="Rounds that are done in any case.")] = 7,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Calls of each candidate before the rounds.")] = 3,
    cache: Annotated[
        str, typer.Option("--cache", metavar="warm,cold", help="State of the caches before each call.")
    ] = "warm",
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="NAME=V1,V2,...",
            help="Profile over a grid: keys of --layer, batch, maps, threads; of a network size, batch, threads and "
            "its keywords; repeatable.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the ratios: .png, .svg or .pdf.", show_default=False),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE", help="Write a Chrome trace of one call of each candidate.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", metavar="FILE", help="Compare with what an older --json wrote.", show_default=False),
    ] = None,
    fail_over: Annotated[
        str | None,
        typer.Option("--fail-over", metavar="PERCENT", help="With --compare: exit 1 if slower by more than this."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be timed, and time nothing.")] = False,
    dtype: Annotated[
        DtypeName | None, typer.Option("--dtype", help="Of input and parameters.", show_default="the model's; float32")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=4096, help="CPU threads.", show_default="as PyTorch chooses")
    ] = None,
    seed: SeedOpt = 0,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Time dynamic layers, and the network, against nn.Conv2d and against computing all filters.

    Candidates are called in turn in every round. Each must first agree with the reference on the inputs that the layer
    gets. Layers of equal sizes are timed once.
    """
    asked, axes = asked_size(size, input), parse_sweep(sweep)
    destination = Destination.of(format, as_json, output, force)
    network_only = {"MODEL": model, "--checkpoint": checkpoint, "--convert": convert, "--size": size, "--input": input}
    apart("--layer", layer, network_only)
    of_layers = {"--occurring": occurring, "--scope": scope != "module", "--filter-order": filter_order != "generator"}
    apart("a network", layer is None, of_layers)
    apart("--sweep", axes, {"--compare": compare, "--dry-run": dry_run, "--trace": trace, "--stages": stages})
    apart("--sweep", axes, {"--checkpoint": checkpoint, "--every-layer": every_layer, "--explain": explain})
    apart("--sweep size=...", "size" in axes, {"--size": size, "--input": input})
    apart("--dry-run", dry_run, {"--compare": compare, "--plot": plot, "--trace": trace})
    apart("--format csv", destination.format == "csv", {"--stages": stages, "--explain": explain, "--compare": compare})
    if fail_over is not None and compare is None:
        raise typer.BadParameter("--fail-over is for --compare; give that, too")
    if layer is None and maps and not maps.startswith("image:"):
        raise typer.BadParameter(f"a network makes its own regions; --maps takes image:FILE there, got {maps!r}")
    noise, limit = parse_share("--target-noise", target_noise), parse_share("--fail-over", fail_over)
    check_pictures(plot, output, force)
    check_free([trace] if trace is not None else [], force)
    older: Any = None if compare is None else read_json(compare)
    import torch

    from drconv.analysis import ProfileOptions, StopRule, find_device, parse_layer
    from drconv.analysis.profile import check_profile, compare_profiles

    if compare is not None:
        check_profile(older, str(compare), SCHEMA)
    if threads is not None:
        torch.set_num_threads(threads)
    stop = StopRule(rounds, noise or StopRule.target_noise, max_time, min_rounds, warmup)
    options = ProfileOptions(
        tuple(backend) if backend else None, layout, which, stop, naive, comma_list(cache), every_layer,
        stages=stages, trace=trace,
    )  # fmt: skip
    subject: Subject
    arguments: dict[str, Any] = {}
    if layer is not None:
        where, spec = find_device(device), parse_layer(layer)
        subject = ProfiledLayer(spec, batch_size, scope, maps or "uniform", occurring, filter_order, seed, where, dtype)
        arguments |= {"device": str(where), "seed": seed}
    else:
        target = open_target(model, checkpoint, device, seed, convert)
        if dtype is not None:
            target.model.to(getattr(torch, dtype))
        subject = ProfiledNetwork(target, asked or target.input_size, batch_size, maps, seed, convert)
        arguments |= target.arguments
    arguments |= {
        "layer": layer, "input_shape": subject.input_shape, "pass": which, "scope": scope, "maps": maps or None,
        "occurring": occurring, "filter_order": filter_order, "backends": backend, "naive": naive, "layout": layout,
        "every_layer": every_layer, "stages": stages, "rounds": rounds, "target_noise": stop.target_noise,
        "max_time": max_time, "min_rounds": min_rounds, "warmup": warmup, "cache": cache, "dtype": dtype, "sweep": axes,
        "plot": plot, "trace": trace, "compare": compare, "fail_over": limit, "threads": threads,
    }  # fmt: skip

    def show(report: Any, where: dict[str, Any], *more: Any) -> None:
        emit(report, envelope("profile", arguments, where, report), destination, *more)

    if dry_run:
        show(subject.plan(options), stamp_of(subject))
    elif axes:
        subject.check_axes(axes)
        swept = _sweep(subject, axes, options)
        _draw(swept, plot, force)
        show(swept, swept.environment)
    else:
        with progress() as step:
            report = subject.profile(options, step)
        _draw(report, plot, force)
        if compare is not None:
            data = envelope("profile", arguments, report.environment, report)
            report = replace(report, comparison=compare_profiles(older, data, str(compare), limit))
        show(report, report.environment, *_views(report, stages, explain))
        _fail_if_slower(report)


def stamp_of(subject: Subject) -> dict[str, Any]:
    """Return the environment that a subject would be timed in."""
    from drconv.analysis.profile import stamp

    return stamp(subject.device)


def _sweep(subject: Subject, axes: dict[str, list[Any]], options: ProfileOptions) -> ProfileSweep:
    from drconv.analysis.profile import sweep_profiles

    def measure(settings: dict[str, Any]) -> ProfileReport:
        with threads_set(settings.get("threads")):
            return subject.at(settings).profile(options)

    with progress() as step:
        return sweep_profiles(subject.title(axes), measure, axes, progress=step)


def _draw(report: ProfileReport | ProfileSweep, path: Path | None, force: bool) -> None:
    if path is None:
        return
    from drconv.viz import profile_figure

    data = BytesIO()
    profile_figure(report).savefig(data, format=path.suffix[1:].lower())
    write_file(path, data.getvalue(), force)
    notice(f"wrote {path}")


def _views(report: ProfileReport, stages: bool, explain: bool) -> list[Any]:
    """Return what is shown below the main table."""
    from drconv.analysis.profile import ExplainedProfile, StagedProfile

    found: list[Any] = [StagedProfile(report)] * stages + [ExplainedProfile(report)] * explain
    return found + [report.comparison] * (report.comparison is not None)


def _fail_if_slower(report: ProfileReport) -> None:
    compared = report.comparison
    if compared is not None and compared.regressions:
        worst = max(compared.regressions, key=lambda c: c.change or 0)
        raise RegressionError(
            f"{len(compared.regressions)} of {len(compared.candidates)} candidates are slower than in "
            f"{compared.against} by more than --fail-over, most of all {worst.candidate} {worst.layout} of "
            f"{worst.target}: {worst.old_ratio:.2f}x of conv2d before, {worst.ratio:.2f}x now"
        )
