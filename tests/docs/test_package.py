"""What a stranger gets: a clone of the last commit, and a wheel built from the tree."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.support.process import clean_environment

IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import kvorum
assert pathlib.Path(kvorum.__file__).is_relative_to(sys.argv[1]), kvorum.__file__
for module in pkgutil.walk_packages(kvorum.__path__, "kvorum."):
    if not module.name.endswith(".__main__"):  # that one runs
        importlib.import_module(module.name)
"""


def run(*words: str | Path, cwd: Path, **extra: str) -> str:
    """Run a program that must succeed; what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=clean_environment(extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout)
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of HEAD: what is not committed is not there."""
    folder = tmp_path_factory.mktemp("fresh")
    run("git", "clone", "-q", "--no-hardlinks", ROOT, folder / "kvorum", cwd=folder)
    return folder / "kvorum"


def test_a_clone_can_install_itself(clone: Path) -> None:
    assert not (clone / ".venv").exists()
    steps = run("make", "-n", "install", cwd=clone)
    assert "-m venv .venv" in steps
    assert "--require-hashes -r requirements.lock" in steps
    assert "-e ." in steps
    targets = run("make", "help", cwd=clone)
    assert all(f"\n{target} " in f"\n{targets}" for target in ("run", "test", "install", "check", "bench"))


def test_a_clone_has_every_module(clone: Path) -> None:
    run(sys.executable, "-c", IMPORT_ALL, clone, cwd=clone, PYTHONPATH=str(clone / "src"))


def test_a_clone_has_every_test_and_its_helpers(clone: Path) -> None:
    listed = run(sys.executable, "-m", "pytest", "--collect-only", cwd=clone, PYTHONPATH=str(clone / "src"))
    assert "tests/docs/test_package.py" in listed


def test_the_files_in_which_something_is_looked_up_are_in_the_clone(clone: Path) -> None:
    tracked = set(run("git", "ls-files", cwd=clone).splitlines())
    assert tracked >= {
        "Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "LICENSE", ".ci/run",
        "README.md", "CHANGELOG.md", "ARCHITECTURE.md", "src/kvorum/py.typed",
        "facts/wire.json", "facts/grpc_errors.csv", "facts/flags.csv", "facts/metrics.csv",
    }  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("kvorum-*.whl")
    return built


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    package = ROOT / "src"
    data = {
        str(path.relative_to(package))
        for path in (package / "kvorum").rglob("*")
        if path.suffix in (".py", ".pyi", ".proto", ".typed") or path.name == "py.typed"
    }
    assert {"kvorum/py.typed", "kvorum/proto/rpc.proto", "kvorum/proto/rpc_pb2.pyi"} <= data
    missing = data - names
    assert not missing
    assert any(name.endswith("licenses/LICENSE") for name in names)
    strangers = {name for name in names if not name.startswith("kvorum/") and ".dist-info/" not in name}
    assert not strangers, "the wheel installs nothing but the package"


def test_the_wheels_programs_start(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; the libraries are those of this one, seen behind it."""
    home = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    options = ("-q", "--disable-pip-version-check", "--no-deps", "--no-index")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        home / "bin" / "python",
        "install",
        *options,
        wheel,
        cwd=tmp_path,
    )
    (site,) = home.glob("lib/python*/site-packages")
    # As a line of a .pth file it comes last, and its own .pth file (of the editable install) is not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(home / "bin" / "python", "-c", IMPORT_ALL, home, cwd=tmp_path)
    for program, version, helped in (
        ("kvorum", "--version", "Usage:"),
        ("kvorumctl", "version", "Usage: kvorumctl"),
        ("kvorumutl", "version", "Usage: kvorumutl"),
    ):
        script = home / "bin" / program
        assert script.exists()
        assert "3.5.1" in run(script, version, cwd=tmp_path)
        assert helped in run(script, "--help", cwd=tmp_path)
