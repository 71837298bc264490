"""Runs a program on both servers and says where they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.auth.model import Model
from tests.differential.auth.expect import stricter
from tests.differential.auth.programs import LEASES, LOG_IN
from tests.differential.auth.world import INVALID, Server, Step, World


@final
class Runner:
    """One program after the other, each on cleaned servers; on fresh ones after they have differed."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._worlds = 1
        self._world = World(folder / "1")
        self.compared = 0
        self.alone = 0
        """Steps that only Kvorum was asked, because it is known to be stricter."""

    def run(self, program: Sequence[Step]) -> str | None:
        """What differed first, or None."""
        for server in self._world:
            server.clean()
        model = Model()
        valid: set[str] = set()
        for number, step in enumerate(program):
            difference = self._step(model, valid, step)
            if difference is not None:
                self._world.close()
                self._worlds += 1
                self._world = World(self._folder / str(self._worlds))
                done = "\n".join(f"  {at}: {each}" for at, each in enumerate(program[: number + 1]))
                return f"step {number} differs:\n{done}\n{difference}"
        return None

    def close(self) -> None:
        """End the servers."""
        self._world.close()

    def _step(self, model: Model, valid: set[str], step: Step) -> str | None:
        etcd, kvorum = self._world
        if step.method == LOG_IN:
            one, other = (_log_in(server, step) for server in (etcd, kvorum))
            if one == "token":
                valid.add(step.actor)
            return _told(one, other)
        expected = stricter(
            model,
            step,
            lambda lease: _lease_keys(etcd, lease),
            shown=bool(kvorum.metadata(step.actor)),
            valid=step.actor in valid,
        )
        if expected is not None:
            self.alone += 1
            told = kvorum.call(step)
            return None if told == expected else f"  expected: {expected}\n  kvorum: {told}"
        if not model.enabled and step.actor == INVALID:
            return None  # 3.5.1 refuses a bad token even then
        self.compared += 1
        one, other = etcd.call(step), kvorum.call(step)
        if one == other and isinstance(one, tuple) and not isinstance(one[0], str):
            _follow(model, valid, step)
        return _told(one, other)


def _told(one: object, other: object) -> str | None:
    return None if one == other else f"  etcd: {one}\n  kvorum: {other}"


def _log_in(server: Server, step: Step) -> object:
    request: Any = step.request
    return server.log_in(request.name, request.password)


def _lease_keys(server: Server, lease_id: int) -> list[bytes]:
    """The keys of a lease, of all with 0."""
    keys: list[bytes] = []
    for lease in [lease_id] if lease_id else LEASES:
        request = pb.LeaseTimeToLiveRequest(ID=lease, keys=True)
        try:
            answer = server.client.call(
                "etcdserverpb.Lease/LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse
            )
        except grpc.RpcError:
            continue
        keys.extend(answer.keys)
    return keys


def _follow(model: Model, valid: set[str], step: Step) -> None:
    """Do to the model what has been done to the servers."""
    service, _, name = step.method.rpartition("/")
    if not service.endswith(".Auth"):
        return
    request: Any = step.request
    permission = (
        (int(request.perm.permType), request.perm.key, request.perm.range_end)
        if name == "RoleGrantPermission"
        else None
    )
    refused = None
    if name == "UserAdd":
        refused = model.add_user(request.name, None if request.options.no_password else b"x")
    elif name == "UserDelete":
        refused = model.delete_user(request.name)
        valid.discard(request.name)
    elif name == "UserChangePassword":
        refused = model.change_password(request.name, b"x")
        valid.discard(request.name)
    elif name == "UserGrantRole":
        refused = model.grant_role(request.user, request.role)
    elif name == "UserRevokeRole":
        refused = model.revoke_role(request.name, request.role)
    elif name == "RoleAdd":
        refused = model.add_role(request.name)
    elif name == "RoleDelete":
        refused = model.delete_role(request.role)
    elif permission is not None:
        refused = model.grant_permission(request.name, permission)
    elif name == "RoleRevokePermission":
        refused = model.revoke_permission(request.role, request.key, request.range_end)
    elif name == "AuthEnable":
        refused = model.enable()
    assert refused is None, f"both servers did what the model refuses: {step}: {refused}"
