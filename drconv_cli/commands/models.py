"""`drconv models`: what can be built by name."""

from drconv_cli.options import DeviceOpt, ForceOpt, FormatOpt, JsonOpt, OutputOpt
from drconv_cli.output import Destination, emit, envelope

__all__ = ["models"]


def models(
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """List the models that can be named."""
    destination = Destination.of(format, as_json, output, force)
    from drconv.analysis import environment, find_device
    from drconv.models import describe_models

    where = find_device(device)
    report = describe_models()
    emit(report, envelope("models", {"device": str(where)}, environment(where), report), destination)
