"""How long a cluster is without a leader, as a client feels it."""

import time
from collections.abc import Sequence
from typing import Any, Final

import grpc

from kvorum.proto import rpc_pb2 as pb
from tests.support.client import Client
from tests.support.waiting import WaitError

EVERY_SECONDS: Final = 0.01
GIVE_UP_SECONDS: Final = 60.0


def first_acknowledged(survivors: Sequence[Client], key: bytes, value: bytes) -> float:
    """Send the same put through all, again and again, until one is acknowledged; returns when, monotonic.

    What was forwarded to a dead leader is lost, so no single attempt is waited for. The others may still be
    applied afterwards. Raises WaitError.
    """
    body = pb.PutRequest(key=key, value=value).SerializeToString()
    stubs = [client.channel.unary_unary("/etcdserverpb.KV/Put") for client in survivors]
    end = time.monotonic() + GIVE_UP_SECONDS
    under_way: list[Any] = []
    while time.monotonic() < end:
        under_way += [stub.future(body, timeout=GIVE_UP_SECONDS, wait_for_ready=True) for stub in stubs]
        time.sleep(EVERY_SECONDS)
        if any(call.done() and call.code() is grpc.StatusCode.OK for call in under_way):
            moment = time.monotonic()
            for call in under_way:
                call.cancel()
            return moment
        under_way = [call for call in under_way if not call.done()]
    raise WaitError(f"no put was acknowledged in {GIVE_UP_SECONDS:g} s")
