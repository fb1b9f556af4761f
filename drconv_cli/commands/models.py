"""`drconv models`: what can be built by name."""

from drconv_cli.options import ForceOpt, FormatOpt, JsonOpt, OutputOpt
from drconv_cli.output import Destination, emit, envelope

__all__ = ["models"]


def models(
    format: FormatOpt = None, as_json: JsonOpt = False, output: OutputOpt = None, force: ForceOpt = False
) -> None:
    """List the models that can be named."""
    destination = Destination.of(format, as_json, output, force)
    from drconv.analysis import environment
    from drconv.models import describe_models

    report = describe_models()
    emit(report, envelope("models", {}, environment(), report), destination)
