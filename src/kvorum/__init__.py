"""Kvorum: etcd, whole, in Python.

The folders are the stages of a request's path (ARCHITECTURE.md walks it); start there.
"""

__version__ = "0.1.0"

ETCD_VERSION = "3.5.1"
"""The etcd release whose behaviour this server answers with (``/version``, ``Maintenance.Status``)."""
