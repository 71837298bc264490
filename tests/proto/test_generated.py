"""What is checked in is what ``scripts/protoc.py`` makes."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = Path("kvorum") / "proto"


def _generated(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*_pb2.py*")}


def test_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "protoc.py"
    subprocess.run([sys.executable, script, "--out", tmp_path], check=True, timeout=60)
    fresh = _generated(tmp_path / PACKAGE)
    assert fresh
    assert fresh == _generated(ROOT / "src" / PACKAGE), "run `make proto`"
