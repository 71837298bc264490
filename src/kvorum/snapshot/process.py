"""Running this room's work in processes of their own, beside the member.

Standard input of such a process is a pipe that nobody writes to: when the member ends, however it does, the
pipe does too, and the process with it. It works at a lower priority, so that the member's own work goes
first.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import kvorum

_NICENESS: Final = 10


class Outcome(NamedTuple):
    """How a process ended; negative codes are signals."""

    code: int
    output: bytes
    trouble: str
    """What it wrote to standard error, in one line."""


async def run(module: str, arguments: Sequence[str], pass_fds: Sequence[int] = ()) -> Outcome:
    """Run a module of this package to its end; cancelling it kills the process.

    Raises:
        OSError: it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,  # a Ctrl-C is the member's to answer
        env=_environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        output, trouble = await asyncio.gather(process.stdout.read(), process.stderr.read())
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        assert process.stdin is not None
        process.stdin.close()
    lines = trouble.decode("utf-8", "backslashreplace").strip().splitlines()
    return Outcome(code, output, lines[-1] if lines else f"the process ended with {code}")


def _environment() -> dict[str, str]:
    """Ours, with the place that this package was found at: no file of the working directory is imported."""
    paths = [str(Path(kvorum.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def accompany() -> None:
    """Be such a process: of low priority, and gone when the member is."""
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_member, daemon=True).start()


def _end_with_member() -> None:
    while os.read(0, 64):
        pass
    os._exit(1)
