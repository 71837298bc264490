"""What is in deploy/ parses, agrees with itself, and starts: as far as that can be seen without a cluster."""

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import yaml

from kvorum.config_sources import load
from kvorum.logging import Logger
from tests.support.ports import free_port
from tests.support.process import clean_environment
from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def copy(source: Path, target: Path) -> None:
    """Docker's COPY: a file into a directory, or what is in a directory into another one."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_the_steps_of_the_image(tmp_path: Path) -> None:
    """Run in a directory instead of an image. What is not as in it: the libraries are this environment's."""
    steps = instructions()
    assert [word for word, _ in steps].count("FROM") == 2
    build = tmp_path / "src"
    build.mkdir()
    place = tmp_path / "opt" / "kvorum"
    for word, argument in steps[: [at for at, step in enumerate(steps) if step[0] == "FROM"][1]]:
        if word == "COPY":
            *sources, target = argument.split()
            for source in sources:
                copy(ROOT / source, build / target)
        elif word == "RUN":
            command = argument.replace("/opt/kvorum", str(place))
            if "requirements.lock" in command:
                assert "--require-hashes" in command
                (site,) = place.glob("lib/python*/site-packages")
                (site / "here.pth").write_text(sysconfig.get_path("purelib"))
                continue
            subprocess.run(
                shlex.split(command.replace("python ", f"{sys.executable} ", 1)), cwd=build, check=True
            )
    entry = json.loads(dict(steps)["ENTRYPOINT"])
    client = free_port()
    flags = [flag.replace("2379", str(client)) for flag in json.loads(dict(steps)["CMD"])]
    peer = f"http://127.0.0.1:{free_port()}"
    extra = [
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]
    data = tmp_path / "data"
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = clean_environment({"PATH": path, "ETCD_DATA_DIR": str(data)})
    program = str(place / "bin" / entry[0])
    with subprocess.Popen(
        [program, *flags, *extra], env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as member:
        try:
            health = next(rest for word, rest in steps if word == "HEALTHCHECK").partition("CMD")[2]
            probe = [str(place / "bin" / "kvorumctl"), *json.loads(health)[1:]]
            wait_until(
                lambda: subprocess.run(
                    probe, env=environment | {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{client}"},
                    capture_output=True, check=False,
                ).returncode == 0,
                "a healthy member",
            )  # fmt: skip
            where = subprocess.run(
                [str(place / "bin" / "python"), "-c", "import kvorum; print(kvorum.__file__)"],
                env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert str(place) in where.stdout, "the image's own copy runs"
        finally:
            member.terminate()
    assert (data / "member").is_dir()


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return parser


def test_units_parse_and_say_when_they_are_ready(tmp_path: Path) -> None:
    for name in ("kvorum.service", "kvorum-grpc-proxy.service"):
        service = unit(name)["Service"]
        assert service["Type"] == "notify"
        assert service["ExecStart"].split()[0] == "/opt/kvorum/bin/kvorum"
        assert unit(name)["Install"]["WantedBy"] == "multi-user.target"
    client, listen = free_port(), free_port()
    environment = {"ENDPOINTS": f"127.0.0.1:{client}", "LISTEN": f"127.0.0.1:{listen}"}
    peer = f"http://127.0.0.1:{free_port()}"
    url = f"http://127.0.0.1:{client}"
    member = [
        f"--data-dir={tmp_path / 'data'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]  # fmt: skip
    proxy = [
        re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], word)
        for word in unit("kvorum-grpc-proxy.service")["Service"]["ExecStart"].split()[1:]
    ]
    program = str(Path(sys.executable).parent / "kvorum")
    for arguments in (member, proxy):
        path = str(tmp_path / f"notify-{len(arguments)}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(30)
            started = subprocess.Popen(
                [program, *arguments],
                env=clean_environment({"NOTIFY_SOCKET": path}),
                stderr=subprocess.DEVNULL,
            )
            try:
                assert manager.recv(100) == b"READY=1"
            finally:
                started.terminate()
                started.wait(20)


def documents() -> dict[tuple[str, str], Any]:
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "kvorum.yaml").read_text()))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_the_stateful_set_agrees_with_itself() -> None:
    found = documents()
    stateful = found["StatefulSet", "kvorum"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    (container,) = stateful["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for (kind, _), document in found.items():
        spec = document["spec"]
        selector = spec["selector"].get("matchLabels", spec["selector"])
        assert selector.items() <= labels.items(), kind
        for port in spec.get("ports", ()):
            assert ports[port["targetPort"]] == port["port"]
    governing = found["Service", stateful["serviceName"]]["spec"]
    assert governing["clusterIP"] == "None"
    assert governing["publishNotReadyAddresses"]
    assert found["PodDisruptionBudget", "kvorum"]["spec"]["minAvailable"] > stateful["replicas"] // 2
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]}
    assert mounts == volumes | {volume["name"] for volume in stateful["template"]["spec"]["volumes"]}
    uid = next(rest for word, rest in instructions() if word == "USER")
    assert int(uid) == stateful["template"]["spec"]["securityContext"]["runAsUser"]


def test_each_pod_is_a_member_of_the_same_cluster() -> None:
    stateful = documents()["StatefulSet", "kvorum"]["spec"]
    (container,) = stateful["template"]["spec"]["containers"]
    fixed = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    clusters = set()
    for at in range(stateful["replicas"]):
        values = fixed | {"POD": f"kvorum-{at}"}
        arguments = [re.sub(r"\$\((\w+)\)", lambda f, v=values: v[f[1]], one) for one in container["args"]]  # type: ignore[misc]
        config = load(arguments, {}, Logger([]), default_host=lambda: "")
        config.validate()
        config.verify_bootstrap()
        assert len(config.initial_members()) == stateful["replicas"]
        clusters.add(config.initial_cluster)
        (mount,) = (one["mountPath"] for one in container["volumeMounts"] if one["name"] == "data")
        assert config.data_dir.startswith(mount)
    assert len(clusters) == 1
