"""The v2 tree in a snapshot: JSON beside the bbolt file, tables of its own in the database here.

Members of etcd up to 3.5 must have it in every snapshot, later ones send none.
"""

from kvorum.v2store.dump import View, recover_json, save_json
from kvorum.v2store.tables import Tables


class TreeError(Exception):
    """The JSON is no v2 tree."""


def v2_json(view: View) -> bytes:
    """The tree as etcd's JSON."""
    return save_json(view)


def load_v2(data: bytes, tables: Tables) -> None:
    """Put the tree of etcd's JSON into its tables; nothing without data.

    Raises:
        TreeError: it is none.
    """
    if not data:
        return
    try:
        recover_json(data, tables)
    except ValueError as error:
        raise TreeError(str(error)) from error
