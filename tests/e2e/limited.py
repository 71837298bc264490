"""Run a command with less than the machine has: ``limited.py [--file-bytes N] [--bound-root] -- command``.

``--file-bytes`` bounds the size of every file it writes (RLIMIT_FSIZE): to the process a disk that refuses to
take more, without a file system of its own. ``--bound-root`` takes from root the right to ignore permissions
(CAP_DAC_OVERRIDE), so that a directory may be unwritable for whoever runs the tests. The command replaces
this process, so it keeps its process id.
"""

import argparse
import ctypes
import os
import resource
from typing import Final

_PR_CAPBSET_DROP: Final = 24
_CAP_DAC_OVERRIDE: Final = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file-bytes", type=int)
    parser.add_argument("--bound-root", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if asked.file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked.file_bytes, asked.file_bytes))
    if asked.bound_root and os.geteuid() == 0:
        dropped = ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)
        assert dropped == 0, os.strerror(ctypes.get_errno())
    command = asked.command[1:]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
