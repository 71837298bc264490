"""The descriptor pool that holds Kvorum's messages, apart from protobuf's process-wide one.

etcd client libraries register ``etcdserverpb.*`` in the default pool; with a pool of our own both can live
in one process. ``Default`` keeps the name that generated code calls.
"""

from google.protobuf.descriptor_pool import DescriptorPool

_POOL = DescriptorPool()


def Default() -> DescriptorPool:  # noqa: N802 - the name protoc's generated code calls
    """Return the pool shared by every module of this package."""
    return _POOL
