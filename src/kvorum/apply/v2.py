"""Committed v2 requests become operations on the v2 tree.

A request is ``etcdserverpb.Request``: field 2 of an InternalRaftRequest, or a whole entry as members of etcd
propose it (``v2store/request.py``). Members of etcd 3.4 and earlier also publish their names, and the cluster
its version, this way: those two paths are the membership's. Source: etcd 3.4.23 ``etcdserver/apply_v2.go``.
"""

from typing import Final, Protocol, final

from kvorum.v2store.errors import V2Error
from kvorum.v2store.event import Event
from kvorum.v2store.request import V2Request
from kvorum.v2store.store import Store


class Membership(Protocol):
    """Who knows the members (``server/membership.py``)."""

    def apply_v2_put(self, path: str, value: str) -> bool:
        """Take a PUT that concerns the membership; False: it is a key like others."""


@final
class UnknownMethodError(Exception):
    """A request has a method that no member proposes; going on would make members differ."""


@final
class V2Applier:
    """Applies v2 requests to the tree and the membership, in the order they are given."""

    __slots__ = ("_membership", "_store")

    def __init__(self, store: Store, membership: Membership) -> None:
        self._store: Final = store
        self._membership: Final = membership

    def apply(self, body: bytes, parsed: object = None) -> Event | V2Error | None:
        """Apply the request ``body``, or ``parsed`` if the member that proposed it kept it.

        Returns what happened or why not; None for requests that nobody waits for.

        Raises:
            MalformedRequestError, UnknownMethodError, ValueError: no member proposes such a request.
        """
        request = parsed if isinstance(parsed, V2Request) else V2Request.decode(body)
        try:
            return self._apply(request)
        except V2Error as error:
            error.__traceback__ = None
            return error

    def _apply(self, request: V2Request) -> Event | None:
        method = request.method
        store = self._store
        if method == "PUT":
            return self._put(request)
        if method == "POST":
            return store.create(request.path, request.dir, request.val, True, request.expiration)
        if method == "DELETE":
            if request.prev_index or request.prev_value:
                return store.compare_and_delete(request.path, request.prev_value, request.prev_index)
            return store.delete(request.path, request.dir, request.recursive)
        if method == "QGET":
            return store.get(request.path, request.recursive, request.sorted)
        if method == "SYNC":
            store.delete_expired_keys(request.time)
            return None
        raise UnknownMethodError(f"the log holds a v2 request of method {method!r}")

    def _put(self, request: V2Request) -> Event | None:
        store = self._store
        path, value, expires = request.path, request.val, request.expiration
        refresh = bool(request.refresh)
        compares = bool(request.prev_index or request.prev_value)
        if request.prev_exist is False:
            return store.create(path, request.dir, value, False, expires)
        if compares:
            return store.compare_and_swap(
                path, request.prev_value, request.prev_index, value, expires, refresh
            )
        if request.prev_exist:
            return store.update(path, value, expires, refresh)
        if path.startswith("/0/") and self._membership.apply_v2_put(path, value):
            return None
        return store.set(path, request.dir, value, expires, refresh)
