"""The flags of ``kvorum grpc-proxy start``. Source: etcd ``server/etcdmain/grpc_proxy.go``."""

from typing import Final

from kvorum.flags import BOOL, DURATION, INT, LIST, STRING, UINT, Flag

_MAX_INT32: Final = 2**31 - 1

_FLAGS: Final = (
    Flag("listen-addr", STRING, "127.0.0.1:23790", "Address to listen on."),
    Flag("discovery-srv", STRING, "", "Domain whose SRV records name the endpoints."),
    Flag("discovery-srv-name", STRING, "", "Suffix of the records' service name."),
    Flag("metrics-addr", STRING, "", "URL of one more listener, for health and metrics only."),
    Flag("insecure-discovery", BOOL, "false", "Take endpoints of records without TLS as well."),
    Flag("endpoints", LIST, "127.0.0.1:2379", "Endpoints by comma."),
    Flag("advertise-client-url", STRING, "127.0.0.1:23790", "Where clients find this proxy."),
    Flag("resolver-prefix", STRING, "", "Key prefix below which proxies register themselves."),
    Flag("resolver-ttl", INT, "0", "Seconds for which a registration outlives its proxy."),
    Flag("namespace", STRING, "", "Prefix of all keys, which clients do not see."),
    Flag("enable-pprof", BOOL, "false", "Taken, and without effect: profiles are not there yet."),
    Flag("data-dir", STRING, "default.proxy", "Where --auto-tls keeps its certificate."),
    Flag("max-send-bytes", INT, str(3 * 512 * 1024), "Longest request passed on, in bytes."),
    Flag("max-recv-bytes", INT, str(_MAX_INT32), "Longest answer of a member, in bytes."),
    Flag("grpc-keepalive-min-time", DURATION, "5s", "Clients that ping more often are closed."),
    Flag("grpc-keepalive-interval", DURATION, "2h0m0s", "Between pings to clients; 0 for none."),
    Flag("grpc-keepalive-timeout", DURATION, "20s", "Clients that do not answer one are closed."),
    Flag("cert", STRING, "", "Certificate shown to members."),
    Flag("key", STRING, "", "Its key."),
    Flag("cacert", STRING, "", "CA that members must show certificates of."),
    Flag("insecure-skip-tls-verify", BOOL, "false", "Believe any certificate of a member."),
    Flag("cert-file", STRING, "", "Certificate shown to clients."),
    Flag("key-file", STRING, "", "Its key."),
    Flag("trusted-ca-file", STRING, "", "CA that clients must show certificates of."),
    Flag("auto-tls", BOOL, "false", "Make a certificate to show to clients."),
    Flag("client-crl-file", STRING, "", "Revocations of clients' certificates."),
    Flag("self-signed-cert-validity", UINT, "1", "Years for which --auto-tls makes one."),
    Flag("experimental-serializable-ordering", BOOL, "false", "No read is older than one before it."),
    Flag("experimental-leasing-prefix", STRING, "", "Not there: keys leased for local reads."),
    Flag("debug", BOOL, "false", "Log more."),
)
FLAGS: Final = {flag.name: flag for flag in _FLAGS}
"""By name."""
