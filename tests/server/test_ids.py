"""Identifiers are those that etcd computes."""

from kvorum.logging import hex_id
from kvorum.proto.wire import varint
from kvorum.server import ids


def test_the_default_member_and_cluster_have_etcds_well_known_ids() -> None:
    member = ids.member_id(["http://localhost:2380"], "etcd-cluster")
    assert hex_id(member) == "8e9e05c52164694d"
    assert hex_id(ids.cluster_id([member])) == "cdf818194e3a8c32"


def test_the_order_of_urls_and_members_does_not_matter() -> None:
    urls = ["http://b:2380", "http://a:2380"]
    assert ids.member_id(urls, "t") == ids.member_id(urls[::-1], "t")
    assert ids.cluster_id([3, 1, 2]) == ids.cluster_id([1, 2, 3])


def test_a_member_added_later_gets_another_id() -> None:
    assert ids.member_id(["http://a:2380"], "", 1) != ids.member_id(["http://a:2380"], "", 2)


def test_request_ids_are_unique_across_members_and_restarts() -> None:
    generators = [
        ids.RequestIdGenerator(member, started)
        for member in (0x1111, 0x2222)
        for started in (1_700_000_000.0, 1_700_000_001.0)
    ]
    given = [generator.next() for generator in generators for _ in range(1000)]
    assert len(set(given)) == len(given)
    assert all(0 < identifier < 1 << 64 for identifier in given)


def test_the_varint_of_an_id_is_the_ids_varint_beyond_every_carry() -> None:
    generator = ids.RequestIdGenerator(0xFFFF, 1_700_000_000.0)
    twin = ids.RequestIdGenerator(0xFFFF, 1_700_000_000.0)
    assert all(generator.next_varint() == varint(twin.next()) for _ in range(40_000))
