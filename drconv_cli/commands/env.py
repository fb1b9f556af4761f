"""`drconv env`: versions, devices, and what each backend can do here."""

from drconv_cli.options import DeviceOpt, ForceOpt, FormatOpt, JsonOpt, OutputOpt
from drconv_cli.output import Destination, emit, envelope

__all__ = ["env"]


def env(
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Show versions and devices, and for each backend whether it runs here and why not."""
    destination = Destination.of(format, as_json, output, force)
    from drconv.analysis import describe_environment, find_device

    report = describe_environment(find_device(device))
    emit(report, envelope("env", {"device": device}, report.environment, report), destination)
