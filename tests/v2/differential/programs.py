"""Programs from seeds: what people do with the v2 API, what they get wrong, and what attackers try.

Every program works below a directory of its own, so that its last step can delete all of it, which also ends
its long polls. A seed always gives the same program.
"""

import base64
import random
from collections.abc import Callable
from typing import Final, final
from urllib.parse import quote

from tests.v2.differential.steps import FORM, Ask, Outlive, Program, Step, Watch

CLIENTS: Final = 3
_NAMES: Final = (
    "a",
    "b",
    "a/x",
    "a/y",
    "a/x/deep",
    "b/z",
    "_h",
    "a/_h",
    "_h/in",
    "",
    "q",
    "sp ace",
    "é",
    "<&>",
    "A.b",
)
_VALUES: Final = (
    "one",
    "two",
    "three",
    "Hello world",
    '<b>&"\\',
    "é✓\u2028",
    "line\nend\r\t\x01\x7f",
    "",
    "x" * 300,
)
_ODD_NUMBERS: Final = ("x", "", "-1", "1.5", "18446744073709551616", "0x10", "+1", " 1", "00", "1_0")
_ODD_FLAGS: Final = ("x", "", "yes", "2", "TRUE", "tRUE", "0", "F", " true")
_FLAG_NAMES: Final = (
    "recursive",
    "sorted",
    "wait",
    "dir",
    "quorum",
    "stream",
    "noValueOnSuccess",
    "prevExist",
    "refresh",
)
_NUMBER_NAMES: Final = ("prevIndex", "waitIndex", "ttl")
_ODD_PATHS: Final = (
    "/v2/keys", "/v2/keys/", "/v2/keys//{root}/a", "/v2/keys/{root}/../{root}/a", "/v2/keys/{root}/./a",
    "/v2/keys/{root}/a/", "/v2/keys/{root}/%2e%2e/{root}", "/v2/keys/{root}/a%2Fx", "/v2/keys/{root}/a%00b",
    "/v2/keys/{root}/%ff%fe", "/v2/keys/{root}/..", "/v2/keys/{root}/%zz", "/v2/keys/{root}/..a",
    "/v2/keys/{root}/a;b",
    "/v2/keysx", "/v2", "/v2/", "/v2/nothing", "/v2/keys/{root}/a?", "/v2/keys/{root}/" + "k" * 3000,
    "/v2/machines/",
    "/v2/stats/", "/v2/stats/none", "/v2/members/none", "/v2/auth", "/v2/auth/", "/v2/auth/none",
    "/v2/keys/{root}/a?a=b;c",
)  # fmt: skip
_ODD_TYPES: Final = (
    "", "application/json", "text/plain", "application/x-www-form-urlencoded; charset=utf-8", "a/", "a b",
    ";",
    "APPLICATION/X-WWW-FORM-URLENCODED", "application/x-www-form-urlencoded; =", "multipart/form-data",
    "a/b; c=1; c=2",
    "application/x-www-form-urlencoded;", 'application/x-www-form-urlencoded; a="b',
)  # fmt: skip
_ODD_BODIES: Final = (
    "value=%", "value=%zz", "value", "=x", "&&&", "value=a&value=b", "value=a;b", "%76alue=x",
    "value=a+b%20c", "a=b=c",
    "VALUE=x", "value=%ff%fe", "value=\x00", "prevExist=false&prevExist=x",
)  # fmt: skip
_MEMBER_BODIES: Final = (
    "{", "[]", "{}", '{"peerURLs":[]}', '{"peerURLs":["x"]}', '{"peerURLs":["http://a"]}', "null", '"x"',
    '{"peerURLs":"x"}', '{"peerURLs":["ftp://a:1"]}', '{"peerURLs":["http://a:1/b"]}', '{"peerURLs":[1]}', "",
)  # fmt: skip
_METHODS: Final = ("PATCH", "OPTIONS", "HEAD", "TRACE", "GET", "PUT", "POST", "DELETE")


@final
class Maker:
    """Makes the steps of one program."""

    def __init__(self, seed: str) -> None:
        self.dice: Final = random.Random(seed)
        self.root: Final = "p" + "".join(self.dice.choices("bcdfghjk", k=8))
        self.steps: Final[list[Step]] = []

    def path(self, name: str | None = None) -> str:
        """The URL of a key below the root."""
        name = self.dice.choice(_NAMES) if name is None else name
        return f"/v2/keys/{self.root}" + ("/" + quote(name) if name else "")

    def ask(self, method: str, path: str, parameters: dict[str, str] | None = None) -> None:
        """A request whose parameters stand in the query, in the form, or some here and some there."""
        query: dict[str, str] = {}
        form: dict[str, str] = {}
        for name, value in (parameters or {}).items():
            in_form = method in ("PUT", "POST") and self.dice.random() < 0.7
            (form if in_form else query)[name] = value
        target = path + ("?" + _encoded(query) if query else "")
        headers = (FORM,) if method in ("PUT", "POST") else ()
        self.steps.append(Ask(self.dice.randrange(CLIENTS), method, target, _encoded(form), headers))

    def raw(
        self, method: str, target: str, body: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """A request as it is."""
        self.steps.append(Ask(self.dice.randrange(CLIENTS), method, target, body, headers))

    def index(self) -> str:
        """An index near what has happened in this program."""
        return f"@{self.dice.randrange(0, len(self.steps) + 3)}@"

    def chance(self, part: float) -> bool:
        """True that often."""
        return self.dice.random() < part


def _encoded(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='@')}" for name, value in parameters.items())


def _change(make: Maker) -> None:
    """A put, a post or a delete with plausible parameters."""
    dice = make.dice
    kind = dice.choices(
        ("set", "dir", "cas", "cad", "post", "delete", "refresh", "ttl"), (8, 3, 5, 3, 3, 4, 2, 2)
    )[0]
    if kind == "post":
        parameters = {"value": dice.choice(_VALUES)} | ({"dir": "true"} if make.chance(0.1) else {})
        make.ask("POST", make.path(dice.choice(("q", "a", "_h", "q/r"))), parameters)
    elif kind == "dir":
        parameters = {"dir": "true"} | (
            {"prevExist": dice.choice(("true", "false"))} if make.chance(0.4) else {}
        )
        make.ask("PUT", make.path(), parameters)
    elif kind == "delete":
        flags = {name: "true" for name in ("dir", "recursive") if make.chance(0.5)}
        make.ask("DELETE", make.path(), flags)
    elif kind == "refresh":
        parameters = {"refresh": "true", "ttl": "500", "prevExist": dice.choice(("true", "true", "false"))}
        make.ask("PUT", make.path(), parameters)
    elif kind == "cad":
        make.ask("DELETE", make.path(), _conditions(make))
    else:
        parameters = {"value": dice.choice(_VALUES)}
        if kind == "cas":
            parameters |= _conditions(make)
        if kind == "ttl" or make.chance(0.1):
            parameters["ttl"] = dice.choice(("500", "1000", "", "10000000000", "9223372036"))
        if make.chance(0.1):
            parameters["noValueOnSuccess"] = "true"
        make.ask("PUT", make.path(), parameters)


def _conditions(make: Maker) -> dict[str, str]:
    conditions: dict[str, str] = {}
    while not conditions:
        if make.chance(0.4):
            conditions["prevValue"] = make.dice.choice([value for value in _VALUES if value])
        if make.chance(0.4):
            conditions["prevIndex"] = make.index()
        if make.chance(0.3):
            conditions["prevExist"] = make.dice.choice(("true", "false"))
    return conditions


def _look(make: Maker) -> None:
    flags = {name: "true" for name in ("recursive", "sorted", "quorum") if make.chance(0.4)}
    if "quorum" in flags and make.chance(0.3):
        flags["wait"] = "true"  # a quorum read does not wait
    make.ask("HEAD" if make.chance(0.1) else "GET", make.path(), flags)


def _keys(make: Maker, steps: int) -> None:
    while len(make.steps) < steps:
        _change(make) if make.chance(0.7) else _look(make)


def _watches(make: Maker, steps: int) -> None:
    """Long polls of every kind between changes; and looks into the history, answered at once."""
    while len(make.steps) < steps:
        if make.chance(0.25):
            flags = {name: "true" for name in ("recursive", "stream") if make.chance(0.5)}
            if make.chance(0.4):
                flags["waitIndex"] = make.index()
            make.steps.append(
                Watch(make.path() + "?wait=true" + "".join(f"&{k}={v}" for k, v in flags.items()))
            )
        else:
            _change(make) if make.chance(0.85) else _look(make)


def _mistakes(make: Maker, steps: int) -> None:
    """Requests that no client should send."""
    dice = make.dice
    while len(make.steps) < steps:
        kind = dice.choice(("parameter", "path", "type", "body", "method", "change"))
        if kind == "parameter":
            parameters = {"value": "x"} if make.chance(0.5) else {}
            for _ in range(dice.randint(1, 3)):
                if make.chance(0.5):
                    name, number = dice.choice(_NUMBER_NAMES), dice.choice(_ODD_NUMBERS)
                    if (name, number) != ("ttl", "00"):  # ends when the leader looks next, on each side
                        parameters[name] = number
                else:
                    parameters[dice.choice(_FLAG_NAMES)] = dice.choice(_ODD_FLAGS)
            if parameters.get("wait") in ("TRUE", "true") or parameters.get("stream") == "TRUE":
                parameters["wait"] = "x"
            make.ask(dice.choice(("PUT", "POST", "GET", "DELETE", "HEAD")), make.path(), parameters)
        elif kind == "path":
            path = dice.choice(_ODD_PATHS).format(root=make.root)
            method = dice.choice(("GET", "PUT", "DELETE", "POST", "HEAD"))
            make.raw(method, path, "value=x" if method in ("PUT", "POST") else "", (FORM,))
        elif kind == "type":
            kinds = (("Content-Type", dice.choice(_ODD_TYPES)),)
            make.raw(dice.choice(("PUT", "POST", "DELETE", "GET")), make.path(), "value=x&dir=false", kinds)
        elif kind == "body":
            make.raw(dice.choice(("PUT", "POST")), make.path(), dice.choice(_ODD_BODIES), (FORM,))
        elif kind == "method":
            path = dice.choice(
                ("/v2/keys/" + make.root, "/v2/members", "/v2/machines", "/v2/stats/self", "/v2/auth/users")
            )
            make.raw(dice.choice(_METHODS[:2]), path)
        else:
            _change(make)


def _expiries(make: Maker, steps: int) -> None:
    """Keys and directories that end, seen by long polls and afterwards."""
    for _ in range(steps // 2):
        _change(make)
    names = make.dice.sample(("ta", "tb", "td/in", "_t", "te"), 3)
    for name in names:
        make.ask("PUT", make.path(name), {"value": "short", "ttl": "1"})
    make.ask("PUT", make.path("tdir"), {"dir": "true", "ttl": "1"})
    make.ask("PUT", make.path("tdir/child"), {"value": "goes too"})
    make.ask("PUT", make.path("stays"), {"value": "x", "ttl": "1"})
    make.ask("PUT", make.path("stays"), {"value": "x", "ttl": "", "prevExist": "true"})
    make.ask("PUT", make.path("fresh"), {"value": "x", "ttl": "1"})
    make.ask("PUT", make.path("fresh"), {"refresh": "true", "ttl": "900", "prevExist": "true"})
    make.steps.append(Watch(make.path("tdir/child") + "?wait=true"))
    make.steps.append(Watch(make.path("") + "?wait=true&recursive=true&stream=true"))
    make.steps.append(Outlive(tuple(make.path(name) for name in (*names, "tdir"))))
    for _ in range(4):
        _look(make)
    make.ask("GET", make.path(""), {"recursive": "true", "sorted": "true"})


def _members(make: Maker, steps: int) -> None:
    """Members, machines and statistics: what is there, and what is refused."""
    json = ("Content-Type", "application/json")
    while len(make.steps) < steps:
        kind = make.dice.randrange(4)
        if kind == 0:
            path = make.dice.choice(
                ("/v2/members", "/v2/members/", "/v2/members/leader", "/v2/machines", "/v2/members/x")
            )
            make.raw(make.dice.choice(("GET", "GET", "HEAD", "DELETE")), path)
        elif kind == 1:
            body = make.dice.choice(_MEMBER_BODIES)
            headers = (
                (json,)
                if make.chance(0.8)
                else make.dice.choice(((FORM,), (), (("Content-Type", "a/b; c"),)))
            )
            target = make.dice.choice(("/v2/members", "/v2/members/1234", "/v2/members/"))
            make.raw(make.dice.choice(("POST", "PUT")), target, body, headers)
        elif kind == 2:
            make.raw(
                "DELETE",
                "/v2/members/" + make.dice.choice(("1234", "x", "", "12/34", "fffffffffffffffff", "0")),
            )
        else:
            make.raw(
                make.dice.choice(("GET", "GET", "PUT")),
                make.dice.choice(("/v2/stats/store", "/v2/stats/leader")),
            )


def _auth(make: Maker, steps: int) -> None:
    """Users, roles and who may do what; ends with everything removed."""
    people = {"root": "secret", "ann": "pa:ss", "bob": ""}
    make.raw("PUT", "/v2/auth/users/root", '{"user":"root","password":"secret"}')
    for _ in range(max(steps - 12, 4)):
        _administer(make, people) if make.chance(0.6) else _tresspass(make, people)
    make.raw("PUT", "/v2/auth/enable")
    for _ in range(6):
        _tresspass(make, people) if make.chance(0.6) else _administer(make, people)
    root = (_basic("root", "secret"),)
    make.raw("DELETE", "/v2/auth/enable", "", root)
    for kind, names in (("users", ("root", "ann", "bob", "g<>")), ("roles", ("guest", "r1", "r2"))):
        for name in names:
            make.raw("DELETE", f"/v2/auth/{kind}/{quote(name)}")


def _administer(make: Maker, people: dict[str, str]) -> None:
    dice = make.dice
    kind = dice.choice(("users", "roles"))
    name = dice.choice(("ann", "bob", "root", "g<>") if kind == "users" else ("r1", "r2", "guest", "root"))
    path = f"/v2/auth/{kind}" + dice.choice(
        ("", f"/{quote(name)}", f"/{quote(name)}", f"/{quote(name)}", "/", "/a/b")
    )
    body = dice.choice(_USER_BODIES if kind == "users" else _ROLE_BODIES).replace("NAME", name)
    method = dice.choices(("PUT", "GET", "DELETE", "POST"), (6, 3, 1, 1))[0]
    make.raw(method, path, body if method == "PUT" else "", _someone(make, people, root=0.8))


def _tresspass(make: Maker, people: dict[str, str]) -> None:
    who = _someone(make, people, root=0.2)
    name = make.dice.choice(("a", "a/x", "b", ""))
    method = make.dice.choice(("GET", "PUT", "DELETE"))
    query = make.dice.choice(("", "?recursive=true", "?dir=true"))
    make.raw(method, make.path(name) + query, "value=x" if method == "PUT" else "", (FORM, *who))


def _someone(make: Maker, people: dict[str, str], root: float) -> tuple[tuple[str, str], ...]:
    if make.chance(root):
        return (_basic("root", people["root"]),)
    choice = make.dice.randrange(4)
    if choice == 0:
        return ()
    if choice == 1:
        return (
            (
                "Authorization",
                make.dice.choice(
                    ("Basic", "Basic !!", "Bearer x", "basic cm9vdDpzZWNyZXQ=", "Basic cm9vdA==")
                ),
            ),
        )
    name = make.dice.choice(tuple(people))
    return (_basic(name, people[name] if choice == 2 else "wrong"),)


def _basic(name: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


_USER_BODIES: Final = (
    '{"user":"NAME","password":"pa:ss"}', '{"user":"NAME","password":"pa:ss","roles":["r1"]}',
    '{"user":"NAME"}',
    '{"user":"NAME","grant":["r2"]}', '{"user":"NAME","revoke":["r1"]}',
    '{"user":"NAME","grant":["r1"],"roles":["r2"]}',
    '{"user":"other","password":"x"}', "{", "[]", "", '{"user":"NAME","password":5}',
    '{"User":"NAME","PASSWORD":"pa:ss"}',
)  # fmt: skip
_ROLE_BODIES: Final = (
    '{"role":"NAME"}', '{"role":"NAME","permissions":{"kv":{"read":["/*"],"write":["/a*","/b"]}}}',
    '{"role":"NAME","grant":{"kv":{"read":["/p*"],"write":["/p*"]}}}',
    '{"role":"NAME","revoke":{"kv":{"read":["/*"]}}}',
    '{"role":"NAME","grant":{"kv":{"read":["/x"]}},"permissions":{"kv":{"read":["/*"]}}}',
    '{"role":"other"}', "{", "null",
    '{"role":"NAME","grant":{"kv":{"read":null,"write":["/q<>"]}}}',
    '{"role":"NAME","permissions":null} trailing',
)  # fmt: skip

_SURFACES: Final[dict[str, Callable[[Maker, int], None]]] = {
    "keys": _keys,
    "watches": _watches,
    "mistakes": _mistakes,
    "expiries": _expiries,
    "members": _members,
    "auth": _auth,
}
SURFACES: Final = tuple(_SURFACES)


def make(surface: str, seed: int, steps: int) -> tuple[str, Program]:
    """The program of a seed, and the directory it works in."""
    maker = Maker(f"{surface} {seed}")
    _SURFACES[surface](maker, steps)
    return maker.root, tuple(maker.steps)
