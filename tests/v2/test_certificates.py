"""Users of the v2 API by the names in their certificates (``--client-cert-auth``)."""

import http.client
import json
from pathlib import Path

from tests.support import process
from tests.support.certificates import Authority, Pair
from tests.support.process import Member


def test_a_certificate_names_its_user(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    flags = (
        f"--cert-file={server.cert}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={authority.path}",
        "--client-cert-auth",
    )
    pairs = {name: authority.issue(name) for name in ("root", "ann", "nobody")}
    with Member(process.kvorum(), tmp_path / "data", flags=flags, client_scheme="https") as member:

        def ask(who: str, method: str, path: str, body: str = "") -> int:
            return answer_of(authority, pairs[who], member, method, path, body)

        for kind, name, body in (
            ("users", "root", {"user": "root", "password": "secret"}),
            ("roles", "r", {"role": "r", "permissions": {"kv": {"read": ["/open/*"], "write": []}}}),
            ("users", "ann", {"user": "ann", "password": "pass", "roles": ["r"]}),
        ):
            assert ask("nobody", "PUT", f"/v2/auth/{kind}/{name}", json.dumps(body)) in (200, 201)
        assert ask("nobody", "PUT", "/v2/keys/open/a?value=x") == 201
        assert ask("nobody", "PUT", "/v2/auth/enable") == 200
        revoke = {"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}}
        assert ask("ann", "PUT", "/v2/auth/roles/guest", json.dumps(revoke)) == 401
        assert ask("root", "PUT", "/v2/auth/roles/guest", json.dumps(revoke)) == 200
        assert ask("ann", "GET", "/v2/keys/open/a") == 200
        assert ask("ann", "PUT", "/v2/keys/open/a?value=y") == 401
        assert ask("nobody", "GET", "/v2/keys/open/a") == 401
        assert ask("root", "PUT", "/v2/keys/open/a?value=y") == 200
        assert ask("root", "DELETE", "/v2/auth/enable") == 200
        assert ask("nobody", "PUT", "/v2/keys/open/a?value=z") == 200


def answer_of(authority: Authority, pair: Pair, member: Member, method: str, path: str, body: str) -> int:
    """The status of an answer to a client with a certificate."""
    connection = http.client.HTTPSConnection("127.0.0.1", member.client_port, context=authority.context(pair))
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
