"""Labels of an image: the integers and strings of its sidecar file."""

import json

from encoder.images.labels import MAX_CHARS, Labels, LabelValue

LABEL_SIDECARS = (".json", ".cls")
SIDECARS = (*LABEL_SIDECARS, ".txt")
MAX_SIDECAR_BYTES = 1 << 20
MAX_FIELDS = 64


def parse_labels(suffix: str, data: bytes) -> Labels:
    """Read a sidecar.

    Args:
        suffix: `.json`: the integers and strings of a flat object, other values are left out; `.cls`: one class,
            as label `cls`; `.txt`: a caption, which is not a label.
        data: content of the file.

    Returns:
        Field names with int64 values or strings, both cut to 1,024 characters; an integer outside int64 as a string.

    Raises:
        ValueError: the content is of another form.
    """
    if suffix == ".txt":
        return {}
    text = data.decode().strip()
    if suffix == ".cls":
        return {"cls": _bounded(int(text) if text.lstrip("-").isdecimal() else text)}
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(fields, dict) or len(fields) > MAX_FIELDS:
        raise ValueError(f"no JSON object of up to {MAX_FIELDS} fields")
    return {_clean(name): _bounded(value) for name, value in fields.items() if isinstance(value, int | str)}


def _bounded(value: int | str) -> LabelValue:
    if isinstance(value, str):
        return _clean(value)
    return int(value) if -(2**63) <= value < 2**63 else _clean(str(value))


def _clean(text: str) -> str:
    """Cut a string, and make lone surrogates (JSON allows them) storable as UTF-8."""
    return text[:MAX_CHARS].encode(errors="replace").decode()
