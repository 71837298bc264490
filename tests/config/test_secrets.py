"""No secret of the command line gets into the log."""

import pytest

from kvorum.main import without_secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--name=a", "--discovery-password=p"], ["--name=a", "--discovery-password=<hidden>"]),
        (["-discovery-password", "p", "--name", "p"], ["-discovery-password", "<hidden>", "--name", "p"]),
        (["--discovery-user=n:p"], ["--discovery-user=<hidden>"]),
        (["--discovery-user", "--discovery-password"], ["--discovery-user", "<hidden>"]),
        (["--auth-token=jwt,priv-key=k.pem"], ["--auth-token=jwt,priv-key=k.pem"]),
    ],
)
def test_secrets_are_hidden(given: list[str], shown: list[str]) -> None:
    assert without_secrets(given) == shown
