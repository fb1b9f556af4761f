"""The JSON envelope."""

import json
from math import isfinite
from typing import Any

__all__ = ["to_json"]


def to_json(envelope: dict[str, Any]) -> str:
    """Render the envelope as JSON that any parser and any encoding takes: what is not finite becomes null.

    Returns:
        Text ending in a newline.
    """
    return json.dumps(_clean(envelope), indent=2, allow_nan=False) + "\n"


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value
