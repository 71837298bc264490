"""What does not need a connection: the credit, the ping policy."""

import pytest

from kvorum import limits
from kvorum.rpc.floods import Credit, PingPolicy


def test_credit_is_spent_earned_and_grows_back() -> None:
    credit = Credit(10, 2, now=0.0)
    assert all(credit.spend(1, 0, 0.0) for _ in range(10))
    assert not credit.spend(1, 0, 0.0)
    assert credit.spend(1, 0, 1.5)  # -1 + 3 - 1
    assert credit.spend(5, 5, 1.5)
    assert credit.spend(0, 1000, 1.5)
    assert credit.left == 10  # never more than its size


@pytest.mark.parametrize("open_streams", [0, 1])
def test_ping_strikes(open_streams: int) -> None:
    policy = PingPolicy(5.0)
    verdicts = [policy.allows(open_streams, 0, 100.0 + number) for number in range(4)]
    assert verdicts == [True, True, True, False]  # the first ping, two strikes, one too many


def test_slow_pings_are_no_strikes_with_a_stream() -> None:
    policy = PingPolicy(5.0)
    assert all(policy.allows(1, 0, 5.0 * number) for number in range(100))


def test_slow_pings_are_strikes_without_a_stream() -> None:
    """etcd sets PermitWithoutStream to false."""
    policy = PingPolicy(5.0)
    verdicts = [policy.allows(0, 0, 600.0 * number) for number in range(4)]
    assert verdicts == [True, True, True, False]
    assert all(policy.allows(0, 1, limits.PING_WITHOUT_STREAM_SECONDS * number) for number in range(2, 50))


def test_answers_clear_the_strikes() -> None:
    policy = PingPolicy(5.0)
    assert all(policy.allows(1, number, 0.01 * number) for number in range(1000))


def test_without_a_minimum_grpcs_own_applies() -> None:
    policy = PingPolicy(0.0)
    assert [policy.allows(1, 0, 299.0 * number) for number in range(4)] == [True, True, True, False]
