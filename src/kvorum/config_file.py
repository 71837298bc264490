"""``--config-file``: a YAML file whose keys are the flags' names.

etcd turns the file into JSON and that into Go's types, so what it accepts, and what it says about the rest,
is that of ``encoding/json``: keys in any case, a number where a text is wanted is taken as text, a text where
a number is wanted is refused. Durations are nanoseconds; Go's form (``100ms``) is taken as well. Reading the
file is the caller's. Source of behaviour: etcd ``embed.ConfigFromFile``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

from kvorum.duration import Duration, parse_duration
from kvorum.flag_table import FLAGS
from kvorum.flags import BOOL, DURATION, INT, LIST, NAMES, UINT, UINT32, Flag, Value
from kvorum.golang import MAX_INT64, MAX_UINT32, MAX_UINT64, MIN_INT64

_SECURITY_KEYS: Final = {
    "cert-file": "cert-file",
    "key-file": "key-file",
    "client-cert-file": "client-cert-file",
    "client-key-file": "client-key-file",
    "client-cert-auth": "client-cert-auth",
    "trusted-ca-file": "trusted-ca-file",
    "auto-tls": "auto-tls",
}
_PEER_SECURITY_KEYS: Final = {
    "allowed-cn": "cert-allowed-cn",
    "allowed-hostname": "cert-allowed-hostname",
    "skip-client-san-verification": "skip-client-san-verification",
}
_CLIENT_SECURITY_KEYS: Final = {"allowed-hostname": "client-cert-allowed-hostname"}
_SECTIONS: Final = {"client-transport-security": "", "peer-transport-security": "peer-"}
_RANGES: Final = {UINT: (0, MAX_UINT64), UINT32: (0, MAX_UINT32), INT: (MIN_INT64, MAX_INT64)}
_GO_TYPES: Final = {
    BOOL: "bool",
    UINT: "uint",
    UINT32: "uint32",
    INT: "int",
    DURATION: "time.Duration",
    LIST: "[]string",
    NAMES: "[]string",
}
_LISTS_IN_FILES: Final = frozenset(
    ("log-outputs", "cipher-suites", "discovery-endpoints", "peer-cert-allowed-cn",
     "peer-cert-allowed-hostname", "client-cert-allowed-hostname")
)  # fmt: skip


class ConfigFileError(Exception):
    """The file cannot be read as a configuration; the message is etcd's where it has one."""


def parse_config_file(data: bytes, unknown: Callable[[str], None]) -> dict[str, Value]:
    """Return the values that the YAML text gives, by flag name.

    Args:
        data: The file's bytes.
        unknown: Called with each key that is no flag (etcd passes over those).

    Raises:
        ConfigFileError: With one line that names the key.
    """
    try:
        document = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ConfigFileError(f"error converting YAML to JSON: yaml: {_yaml_problem(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigFileError(_mismatch(document, "value", "embed.configYAML"))
    values: dict[str, Value] = {}
    names = {name.lower(): name for name in FLAGS}
    for key, item in document.items():
        folded = str(key).lower()
        if folded in _SECTIONS:
            values.update(_security(folded, item, unknown))
        elif folded not in names:
            unknown(str(key))
        elif item is not None:  # JSON's null leaves the default
            flag = FLAGS[names[folded]]
            values[flag.name] = _value(flag, item)
    return values


def _security(section: str, item: object, unknown: Callable[[str], None]) -> Mapping[str, Value]:
    if item is None:
        return {}
    if not isinstance(item, dict):
        raise ConfigFileError(_mismatch(item, f"struct field configYAML.{section}", "embed.securityConfig"))
    values: dict[str, Value] = {}
    own = _PEER_SECURITY_KEYS if _SECTIONS[section] else _CLIENT_SECURITY_KEYS
    for key, value in item.items():
        folded = str(key).lower()
        name = _SECURITY_KEYS.get(folded) or own.get(folded)
        if name is None:
            unknown(f"{section}.{key}")
        elif value is not None:
            flag = FLAGS[_SECTIONS[section] + name]
            values[flag.name] = _value(flag, value, prefix=f"{section}.")
    return values


def _value(flag: Flag, item: Any, *, prefix: str = "") -> Value:
    kind = flag.kind
    where = f"struct field configYAML.{prefix}{flag.name}"
    if kind == BOOL:
        if isinstance(item, bool):
            return item
        raise ConfigFileError(_mismatch(item, where, "bool"))
    if kind in _RANGES:
        low, high = _RANGES[kind]
        if type(item) is int and low <= item <= high:
            return item
        raise ConfigFileError(_mismatch(item, where, _GO_TYPES[kind], show_number=True))
    if kind == DURATION:
        return _duration(item, where)
    if flag.name in _LISTS_IN_FILES:
        if not isinstance(item, list):
            raise ConfigFileError(_mismatch(item, where, "[]string"))
        texts = tuple(_text(part, where) for part in item)
        return tuple(sorted(set(texts))) if kind == NAMES else texts
    text = _text(item, where)
    try:
        return flag.parse(text)
    except ValueError as error:
        if flag.name == "initial-cluster-state":
            return text  # etcd looks at it later, with a text of its own
        raise ConfigFileError(f"unexpected error setting up {flag.name}: {error}") from None


def _duration(item: Any, where: str) -> Duration:
    if type(item) is int:
        return Duration(item)
    if isinstance(item, str):
        try:
            return parse_duration(item)
        except ValueError:
            pass
    raise ConfigFileError(_mismatch(item, where, "time.Duration"))


def _text(item: object, where: str) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return f"{item:g}" if isinstance(item, float) else str(item)
    raise ConfigFileError(_mismatch(item, where, "string"))


def _mismatch(item: object, where: str, wanted: str, *, show_number: bool = False) -> str:
    if isinstance(item, bool):
        found = "bool"
    elif isinstance(item, (int, float)):
        found = f"number {item}" if show_number else "number"
    elif isinstance(item, dict):
        found = "object"
    else:
        found = "array" if isinstance(item, list) else "string"
    return (
        "error unmarshaling JSON: while decoding JSON: json: "
        f"cannot unmarshal {found} into Go {where} of type {wanted}"
    )


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)
