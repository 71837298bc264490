"""Answers as etcdctl prints them with ``-w json``: Go's ``encoding/json`` over gogo-protobuf's structs.

That is not protobuf's own JSON form: names are the proto's, numbers stay numbers, bytes are base64, enums are
numbers, what is zero is left out, a oneof is an object named after it, and ``<``, ``>``, ``&`` are escaped.
"""

import base64
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from kvorum.golang import json_text as dumps

__all__ = ["dumps", "to_plain"]


def to_plain(message: Message) -> dict[str, Any]:
    """Return the message as dicts and lists in the order in which Go prints them."""
    plain: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        oneof = field.containing_oneof
        if field.is_repeated:
            if len(value):
                plain[field.name] = [_plain(field, item) for item in value]
        elif oneof is not None:
            if message.WhichOneof(oneof.name) == field.name:
                plain[_go_name(oneof.name)] = {field.name: _plain(field, value)}
        elif field.message_type is not None:
            if message.HasField(field.name):
                plain[field.name] = to_plain(value)
        elif value:
            plain[field.name] = _plain(field, value)
    return plain


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return to_plain(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value


def _go_name(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
