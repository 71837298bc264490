"""Generate ``src/kvorum/proto/*_pb2.py(i)`` from the ``.proto`` files beside them (``make proto``).

The generated modules are moved from protobuf's process-wide descriptor pool to Kvorum's own
(``kvorum.proto.pool``): a program that embeds Kvorum may also load an etcd client library, which
registers the same message names, and the shared pool refuses the second comer.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PROTO = SRC / "kvorum" / "proto"


def main() -> int:
    """Run protoc over every file; returns its exit status."""
    files = sorted(str(path.relative_to(SRC)) for path in PROTO.glob("*.proto"))
    status: int = protoc.main(["protoc", f"-I{SRC}", f"--python_out={SRC}", f"--pyi_out={SRC}", *files])
    if status:
        return status
    for path in sorted(PROTO.glob("*_pb2.py")):
        text = path.read_text()
        text = text.replace(
            "from google.protobuf import descriptor_pool as _descriptor_pool\n",
            "from kvorum.proto import pool as _descriptor_pool\n",
        )
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
