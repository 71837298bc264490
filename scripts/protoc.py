"""Generate ``src/kvorum/proto/*_pb2.py(i)`` from the ``.proto`` files beside them (``make proto``).

``protoc.py [--out DIR]``: with ``--out``, generate below another directory (a test compares that with what is
checked in).

The generated modules are moved from protobuf's process-wide descriptor pool to Kvorum's own
(``kvorum.proto.pool``): a program that embeds Kvorum may also load an etcd client library, which
registers the same message names, and the shared pool refuses the second comer.
"""

import argparse
import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGE = Path("kvorum") / "proto"


def generate(out: Path) -> int:
    """Run protoc over every file, into ``out``/kvorum/proto; returns its exit status."""
    files = sorted(str(path.relative_to(SRC)) for path in (SRC / PACKAGE).glob("*.proto"))
    status: int = protoc.main(["protoc", f"-I{SRC}", f"--python_out={out}", f"--pyi_out={out}", *files])
    if status:
        return status
    for path in sorted((out / PACKAGE).glob("*_pb2.py")):
        text = path.read_text()
        text = text.replace(
            "from google.protobuf import descriptor_pool as _descriptor_pool\n",
            "from kvorum.proto import pool as _descriptor_pool\n",
        )
        path.write_text(text)
    return 0


def main() -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate the protobuf modules.")
    parser.add_argument("--out", type=Path, default=SRC)
    out: Path = parser.parse_args().out
    return generate(out)


if __name__ == "__main__":
    sys.exit(main())
