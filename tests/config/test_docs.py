"""docs/configuration.md says what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from kvorum.config_sources import load
from kvorum.logging import Logger

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_table_is_fresh() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "flags_doc.py", "--check"], check=False)
    assert done.returncode == 0, "run scripts/flags_doc.py"


def test_the_example_file_works() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = load(["--config-file=x"], {}, Logger([]), read_file=lambda _: text.encode())
    config.validate()
    assert config.name == yaml.safe_load(text)["name"]
    assert config.log_outputs == ("/var/log/kvorum.log", "stderr")
