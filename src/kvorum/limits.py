"""Every bound of the server, in one place, each with its reason and the etcd flag or constant it mirrors.

A number that keeps something from growing belongs here and nowhere else. Values that a flag sets are the
flag's defaults; the room that uses one takes it as an argument.
"""

from typing import Final

# --- requests (api) -------------------------------------------------------------------------------------
MAX_REQUEST_BYTES: Final = 1536 * 1024
"""``--max-request-bytes``: the largest proposal; one entry must not hold up replication."""
GRPC_OVERHEAD_BYTES: Final = 512 * 1024
"""Added to MAX_REQUEST_BYTES for the largest gRPC message taken (etcd ``embed``: ``grpcOverheadBytes``)."""
MAX_TXN_OPS: Final = 128
"""``--max-txn-ops``: operations in one branch of a transaction."""
MAX_GAP_BETWEEN_APPLY_AND_COMMIT: Final = 5000
"""Entries committed but not applied before new proposals get "too many requests" (etcd ``server.go``)."""

# --- logging --------------------------------------------------------------------------------------------
LOG_SAMPLE_FIRST: Final = 100
"""Equal log lines written in a second before thinning starts (etcd ``logutil``: ``Sampling.Initial``)."""
LOG_SAMPLE_THEREAFTER: Final = 100
"""After that, every so many-th equal line is written (etcd ``logutil``: ``Sampling.Thereafter``)."""
LOG_CALLERS_REMEMBERED: Final = 4096
"""Places in the code whose ``caller`` text is kept; there are fewer, unless code is made at run time."""
JOURNAL_DATAGRAM_BYTES: Final = 128 * 1024
"""Longest line sent to the systemd journal; a datagram socket refuses more than its send buffer."""

# --- server ---------------------------------------------------------------------------------------------
MAX_QUEUED_PROPOSAL_BYTES: Final = 256 * 1024 * 1024
"""Proposals that wait for a leader, or for the disk, before new ones get "too many requests"."""
LONE_MEMBER_LOG_ENTRIES: Final = 64
"""Applied entries a member without others keeps in memory before it drops them; nobody will ask for them."""
COMPACTION_SLICE_SECONDS: Final = 0.003
"""One slice of removing compacted revisions; requests wait for no more than a few of these."""

# --- listener and HTTP/1.1 (rpc/listener.py, rpc/http1.py) ------------------------------------------------
RESERVED_FILE_DESCRIPTORS: Final = 150
"""Kept from clients for the log, the database and peers (etcd ``embed``: ``reservedInternalFDNum``); the
process's ``RLIMIT_NOFILE`` less these is how many connections are taken, the rest waits in the kernel's
queue."""
LISTEN_BACKLOG: Final = 4096
"""Connections that the kernel holds for us; it cuts this to ``net.core.somaxconn`` (which is what Go asks
for)."""
ACCEPTS_PER_TURN: Final = 64
"""Connections taken in one turn of the loop, so that a burst of them does not hold up those that work."""
ACCEPT_PAUSE_SECONDS: Final = 0.25
"""Rest after an accept that failed for want of descriptors or memory (Go's net/http: 5 ms growing to 1 s)."""
HALF_OPEN_CONNECTIONS: Final = 4096
"""Connections whose first bytes have not told HTTP/2 from HTTP/1.1 yet; past it the oldest one is dropped."""
FIRST_BYTES_SECONDS: Final = 10.0
"""Longest wait for those first bytes (etcd has no bound; its cmux waits for ever)."""
TLS_HANDSHAKE_SECONDS: Final = 10.0
"""Longest TLS handshake, from the connection to the verdict (etcd ``tlsHandshakeTimeout``, since the fix for
GHSA-6vch-q96h-7gc3)."""
HTTP1_HEADER_BYTES: Final = 128 * 1024
"""Request line and headers together. Go takes 1 MiB; nothing that speaks to etcd needs a tenth of ours, and
unfinished requests are what an attacker makes us hold."""
HTTP1_BODY_BYTES: Final = 4 * 1024 * 1024
"""A request body, where a route names no other bound: MAX_REQUEST_BYTES and its overhead as base64 in
JSON."""
HTTP1_BUFFERED_BYTES: Final = 256 * 1024 * 1024
"""Unfinished request bodies of all connections together; past it the oldest unfinished request is dropped."""
HTTP1_UNFINISHED_REQUESTS: Final = 4096
"""Connections in the middle of a request's bytes; past it the oldest one is dropped."""
HTTP1_REQUEST_SECONDS: Final = 30.0
"""From a request's first byte to its last (of a streamed body: between two pieces). etcd's peers get five
minutes; its clients are not bounded at all."""
HTTP1_IDLE_SECONDS: Final = 300.0
"""A kept-alive connection without a request. etcd never closes one; Go's client lets go after 90 s itself."""
HTTP1_STALL_SECONDS: Final = 60.0
"""A response of which the client takes not one byte for so long is given up."""
HTTP1_LINGER_SECONDS: Final = 1.0
"""How long a refused request's rest is read and dropped, so that a reset does not eat our answer (Go: 0.5
s)."""
HTTP1_PIPELINED_REQUESTS: Final = 64
"""Requests read ahead of the one being answered before the connection is no longer read."""
HTTP1_WRITE_BYTES: Final = 256 * 1024
"""Responses gathered before they are handed to the transport, which then pushes back."""
HEALTH_SERVICES_LISTED: Final = 100
"""Services in one answer of ``grpc.health.v1.Health/List`` (grpc-go ``health``: ``maxAllowedServices``)."""

# --- rpc: HTTP/2 and gRPC -------------------------------------------------------------------------------
MAX_CONCURRENT_STREAMS: Final = 16_384
"""Open streams of one connection, whatever ``--max-concurrent-streams`` allows beyond it (its default is no
limit). An idle stream costs about 1 KiB here; a client that wants more waits, and may open another
connection."""
MAX_HEADER_LIST_BYTES: Final = 64 * 1024
"""SETTINGS_MAX_HEADER_LIST_SIZE: name + value + 32 of all fields; beyond it RST_STREAM."""
MAX_HEADER_BLOCK_BYTES: Final = MAX_HEADER_LIST_BYTES + 16 * 1024
"""A compressed header block over all its CONTINUATION frames (CVE-2024-27316); beyond it GOAWAY."""
MAX_CONTINUATION_FRAMES: Final = 32
"""Frames of one header block: small or empty CONTINUATIONs must not be a way to work for nothing."""
HEADER_BOMB_FACTOR: Final = 4
"""A decompressed list this many times above the allowed one is no mistake: GOAWAY, the rest stays unread."""
HEADER_TABLE_SIZE: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE, the protocol's default: the decoder's dynamic table, per connection."""
HEADER_CACHE_ENTRIES: Final = 256
"""Decoded header blocks kept per connection; when full the cache starts anew."""
HEADER_CACHE_BLOCK_BYTES: Final = 512
"""Longer blocks are not kept: blocks that repeat are short, they refer to the table."""
HUFFMAN_CACHE_ENTRIES: Final = 256
"""Decoded Huffman strings kept per connection; when full the cache starts anew."""
HUFFMAN_CACHE_STRING_BYTES: Final = 64
"""Longer strings are not kept."""
CONNECTION_RECEIVE_WINDOW: Final = 16 * 1024 * 1024
"""Bytes a client may have under way on a connection before it has to wait for WINDOW_UPDATE; it is re-opened
as bytes arrive, since what may stay in memory is bounded by MAX_UNFINISHED_BYTES and the streams' own
windows."""
MAX_UNFINISHED_BYTES: Final = 64 * 1024 * 1024
"""Bytes of requests not yet complete or not yet read by their handlers, per connection. Large messages get
their window granted one after another within it; if small ones alone exceed it, further ones fail
RESOURCE_EXHAUSTED."""
SEND_BUFFER_BYTES: Final = 256 * 1024
"""Response bytes of a connection taken before the transport has to be asked again, and the transport's
high-water mark; while a client does not read more than this, its further requests wait unhandled."""
STREAM_SEND_BUFFER_BYTES: Final = 64 * 1024
"""Bytes of a stream waiting for the client's window before ``StreamCall.write`` waits (grpc-go: 64 KiB)."""
STREAM_BATCH_BYTES: Final = 16 * 1024
"""Small messages gathered into one DATA frame; the protocol's default for the largest one."""
CONGESTED_BYTES: Final = 64 * 1024 * 1024
"""Answers of a connection held back by its client's windows, from where its further requests wait; not less,
since 1,000 watch streams that nobody reads hold as much and must not stop a client's other calls."""
MAX_UNSENT_BYTES: Final = 256 * 1024 * 1024
"""Responses of a connection that its client's windows hold back; a reply that comes on top fails
RESOURCE_EXHAUSTED. One reply alone may be larger."""
MAX_QUEUED_CONTROL_BYTES: Final = 64 * 1024
"""Acks and resets queued for a client that does not read (CVE-2019-9512, -9514, -9515); then we stop
reading."""
USELESS_FRAME_CREDIT: Final = 10_000
"""Frames that cause work and carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, frames on
closed streams, unknown types; CVE-2019-9511 to 9518) a client may send at once; then GOAWAY
ENHANCE_YOUR_CALM."""
USELESS_FRAMES_PER_SECOND: Final = 1000
"""How fast that credit grows back."""
USELESS_FRAMES_PER_USEFUL: Final = 8
"""Credit for each request received and each frame of answers: a busy client's WINDOW_UPDATEs are honest."""
RESET_CREDIT: Final = 4096
"""Streams a client may reset (CVE-2023-44487) or break (CVE-2025-8671) before their answers, at once."""
RESETS_PER_SECOND: Final = 200
"""How fast that credit grows back; an answered call gives one back as well."""
REMEMBERED_RESETS: Final = 1024
"""Streams we reset whose late frames are still ignored rather than answered (RFC 9113 5.4.2)."""
REMEMBERED_GAPS: Final = 64
"""Ranges of skipped stream ids kept to tell "never opened" from "closed" (RFC 9113 5.1.1)."""
MAX_STATUS_MESSAGE_BYTES: Final = 4096
"""``grpc-message`` after percent-encoding; longer ones are cut, so that trailers fit into one frame."""
HANDSHAKE_SECONDS: Final = 20.0
"""Preface and first SETTINGS must have come by then (grpc-go allows 120 s)."""
UNFINISHED_REQUEST_SECONDS: Final = 60.0
"""A header block or a unary request that is not complete after one to two of these ends with RST_STREAM or
GOAWAY. 2 MiB in 60 s is 35 KiB/s."""
GOAWAY_SECONDS: Final = 1.0
"""How long the first GOAWAY waits for the answer to its PING before the second names the last stream."""
GRPC_KEEPALIVE_MIN_TIME_SECONDS: Final = 5.0
"""``--grpc-keepalive-min-time``: pings closer together than this are strikes."""
GRPC_KEEPALIVE_INTERVAL_SECONDS: Final = 7200.0
"""``--grpc-keepalive-interval``: a silent connection is pinged after this long."""
GRPC_KEEPALIVE_TIMEOUT_SECONDS: Final = 20.0
"""``--grpc-keepalive-timeout``: how long that ping's answer, or any acknowledgement by TCP, may take."""
MAX_PING_STRIKES: Final = 2
"""grpc-go ``maxPingStrikes``: the strike after these ends in GOAWAY "too_many_pings"."""
PING_WITHOUT_STREAM_SECONDS: Final = 7200.0
"""grpc-go ``defaultPingTimeout``: etcd permits no keepalive without a stream; closer ones are strikes."""

# --- the log on disk (wal, snapshot) --------------------------------------------------------------------
WAL_SEGMENT_BYTES: Final = 64 * 1000 * 1000
"""A segment is preallocated to this size and left for the next once it is reached (etcd
``SegmentSizeBytes``)."""
MAX_WAL_RECORD_BYTES: Final = 10 * 1024 * 1024
"""Larger length fields are damage, not records (etcd ``maxWALEntrySizeLimit``); far above
MAX_REQUEST_BYTES."""
SLOW_FSYNC_SECONDS: Final = 1.0
"""A sync that takes longer is logged (etcd ``warnSyncDuration``)."""
MAX_DEFERRED_WAL_BYTES: Final = 128 * 1024
"""Commit indexes wait in memory for the next batch that must be synced, up to this (etcd ``pageWriter``'s
buffer)."""
MAX_PLAUSIBLE_TERM: Final = 1 << 48
"""No cluster holds this many elections; a record that claims so is one whose type changed on the disk."""

# --- snapshots on the wire (snapshot, server/transfer.py) -------------------------------------------------
MAX_BBOLT_DEPTH: Final = 32
"""Levels of a tree in a bbolt file. Every branch has two children at least, so no file can need more than its
page numbers have bits; etcd's have three or four."""
MAX_OUTGOING_SNAPSHOTS: Final = 8
"""Snapshots being sent or downloaded at once; each has a file as large as the database (etcd: no bound, each
holds back the reuse of the database's pages instead)."""
SNAPSHOT_RELEASE_DELAY_SECONDS: Final = 30.0
"""For how long the log is kept whole after a member was sent a snapshot, so that it can catch up from there
(etcd ``etcdserver/server.go``: ``releaseDelayAfterSnapshot``)."""
SNAPSHOT_PIECE_BYTES: Final = 256 * 1024
"""A piece of a snapshot read from its file at once."""
SNAPSHOT_READ_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""What the kernel is asked to have in memory when it is read."""
SNAPSHOT_WRITE_BYTES: Final = 1024 * 1024
"""Pieces of a received snapshot gathered before a thread writes them."""
MAX_PREPARED_SNAPSHOTS: Final = 2
"""Received databases that wait for Raft to take them; each has its keys in memory. A leader sends one; a
deposed one's may have come before."""
PREPARED_SNAPSHOT_LOOK_SECONDS: Final = 10.0
"""How often it is looked whether the log has overtaken one of those."""
BLOB_BYTES: Final = 32 * 1024
"""A message of Maintenance.Snapshot (etcd ``v3rpc/maintenance.go``: ``snapshotSendBufferSize``)."""
MAX_BBOLT_BUCKETS: Final = 1024
"""Top-level buckets in a file from elsewhere (etcd has 10)."""

# --- raft -----------------------------------------------------------------------------------------------
RAFT_MAX_SIZE_PER_MESSAGE: Final = 1024 * 1024
"""Entries in one MsgApp: a lost one costs no more (etcd ``etcdserver/raft.go``: ``maxSizePerMsg``)."""
RAFT_MAX_COMMITTED_SIZE_PER_READY: Final = 1024 * 1024
"""Entries given to apply at once, so that the loop gets to other work between (etcd: ``maxSizePerMsg``)."""
RAFT_MAX_INFLIGHT_MESSAGES: Final = 512
"""MsgApps sent to a member and not answered (etcd ``etcdserver/raft.go``: ``maxInflightMsgs`` = 4096 / 8)."""
RAFT_MAX_INFLIGHT_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes of entries, as 512 full ones would be half a GiB for one slow member (etcd: no bound)."""
RAFT_MAX_UNCOMMITTED_SIZE: Final = 128 * 1024 * 1024
"""Proposals a leader takes while nothing commits; the rest is dropped at once instead of piling up (etcd: no
bound here, MAX_GAP_BETWEEN_APPLY_AND_COMMIT counts entries only)."""
RAFT_MAX_PENDING_READS: Final = 10_000
"""ReadIndex requests waiting at a leader; the rest is dropped and asked again (etcd: no bound)."""

# --- mvcc -----------------------------------------------------------------------------------------------
BACKEND_BATCH_INTERVAL_SECONDS: Final = 0.1
"""``--backend-batch-interval``: how long a change waits for its commit (etcd ``backend.go``)."""
BACKEND_BATCH_LIMIT: Final = 10_000
"""``--backend-batch-limit``: operations in one commit (etcd ``backend.go``)."""
COMMIT_TIME_SHARE: Final = 20
"""Commits take at most one part in this many of the time: they hold the loop, and requests wait."""
COMMIT_SECONDS_PER_OPERATION: Final = 1e-6
"""What an operation adds to a commit on a good disk: waiting saves only the rest of a commit's time."""
MAX_COMMIT_INTERVAL_SECONDS: Final = 2.0
"""However slow commits are, this often one is made: what is not committed must be replayed from the log."""
MAX_COMMIT_OPERATIONS_FACTOR: Final = 10
"""However slow commits are, one is made after this many times the batch limit."""
MAX_COMMIT_BYTES: Final = 64 * 1024 * 1024
"""Bytes changed in one commit: LMDB keeps a write transaction's pages in memory."""
INITIAL_MAP_BYTES: Final = 10 * 1024 * 1024 * 1024
"""Address space mapped at first, not memory and not disk (etcd ``backend.go``: initialMmapSize)."""
MAP_HEADROOM_BYTES: Final = 1024 * 1024 * 1024
"""Free map kept besides as much as is used. LMDB cannot go on with a transaction that filled the map, so it
must hold what any one commit may add; one request can delete every key, and a tombstone is smaller than
what it deletes."""
MAX_BACKEND_TABLES: Final = 32
"""Named tables in the database (etcd has 10 buckets)."""
COMPACTION_BATCH: Final = 1000
"""Revisions that compaction deletes before it commits (``--experimental-compaction-batch-limit``)."""
MAX_COMPACTION_BATCH_PAGES: Final = 256
"""Or pages of the database that it touches: a commit writes each of them, and the loop waits."""
MAX_COMPACTION_BACKLOG_BYTES: Final = 48 * 1024 * 1024
"""Memory for revisions found to be superseded but not yet deleted: 4 M of 12 bytes."""
BULK_COMMIT_RECORDS: Final = 100_000
"""Records put into a new database between two commits: LMDB keeps a write transaction's pages in memory."""
MIN_KEYS_TO_FREEZE: Final = 65_536
"""When so many keys (or an eighth) have been added, the store takes itself out of the garbage collector's
sight: a collection looks at each key, which at a million keys stops the process for 25 ms."""

# --- process --------------------------------------------------------------------------------------------
SWITCH_INTERVAL_SECONDS: Final = 0.0005
"""How long a busy loop may keep the interpreter from the WAL's thread, which is about to acknowledge a
batch."""
SHUTDOWN_GRACE_SECONDS: Final = 5.0
"""How long calls may take to end after SIGTERM (etcd waits for the request timeout; probes give up
sooner)."""

# --- watch ----------------------------------------------------------------------------------------------
WATCH_STREAM_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Responses of one stream that wait for its reader; what comes on top is read again from the history later
(etcd ``watchable_store.go``: chanBufLen = 128 responses, of any size)."""
WATCH_TOTAL_QUEUE_BYTES: Final = 256 * 1024 * 1024
"""The same of all streams together; above it each may hold only WATCH_STREAM_QUEUE_BYTES_UNDER_PRESSURE
(etcd: no
bound)."""
WATCH_STREAM_QUEUE_BYTES_UNDER_PRESSURE: Final = 64 * 1024
"""A stream's share while all of them hold too much: enough to keep a reader that reads busy."""
WATCH_RESPONSE_OVERHEAD_BYTES: Final = 64
"""What a queued response costs besides its bytes."""
MAX_WATCHERS_PER_STREAM: Final = 1_000_000
"""Watches of one stream, about half a KiB each (etcd: no bound)."""
WATCH_CATCH_UP_STEPS: Final = 1000
"""Records read, or watchers moved, in one slice of catching up, 2 to 5 ms (etcd ``watcher_group.go``:
watchBatchMaxRevs = 1000 revisions in one response)."""
WATCH_CATCH_UP_BYTES: Final = 1024 * 1024
"""Bytes of KeyValues after which such a slice ends with the revision it is in (etcd: no bound)."""
WATCH_RESPONSE_BYTES: Final = MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES
"""Responses of watches with ``fragment`` are cut to less than this (etcd ``v3rpc/watch.go``:
maxRequestBytes)."""
WATCH_WRITES_PER_TURN: Final = 4000
"""Responses handed to connections in one turn of the loop, some 10 ms, before others are served."""
WATCH_REQUESTS_PER_TURN: Final = 500
"""Requests of one stream handled in a row, some 10 ms, before others are served (etcd: a goroutine each)."""
WATCH_PROGRESS_INTERVAL_SECONDS: Final = 600.0
"""``--experimental-watch-progress-notify-interval``: progress notifications of watches without events."""
MIN_WATCH_PROGRESS_INTERVAL_SECONDS: Final = 0.1
"""The smallest such interval that is taken (etcd ``v3rpc/watch.go``: minWatchProgressInterval)."""
WATCH_PROGRESS_JITTER: Final = 0.1
"""Part of the interval by which streams differ, so that clients that came together are not told together."""

# --- lease ----------------------------------------------------------------------------------------------
MAX_LEASE_TTL_SECONDS: Final = 9_000_000_000
"""Longest lease (etcd ``lessor.go``: MaxLeaseTTL)."""
LEASE_REVOKES_PER_SECOND: Final = 1000
"""Expired leases handed out for revocation, so that a pile of them does not fill the log (etcd:
leaseRevokeRate)."""
LEASE_REVOKE_BURST: Final = 100
"""The most handed out at once, a tenth of a second's (etcd looks twice a second for 500)."""
LEASE_EXPIRIES_PER_SECOND_AFTER_PROMOTION: Final = LEASE_REVOKES_PER_SECOND * 3 // 4
"""A new leader lets no more leases than this expire in any second: what piled up meanwhile leaves room for
others
(etcd ``lessor.go``: Promote)."""
LEASE_LOOKS: Final = 10_000
"""Leases looked at in one search for expired ones only to find that they were renewed: some 5 ms."""
LEASE_REVOKE_RETRY_SECONDS: Final = 3.0
"""An expired lease that is still there after so long is handed out again (etcd:
defaultExpiredleaseRetryInterval)."""
LEASE_CHECKPOINT_INTERVAL_SECONDS: Final = 300.0
"""How often a lease's remaining TTL enters the log (etcd: defaultLeaseCheckpointInterval)."""
MAX_LEASE_CHECKPOINTS_PER_ENTRY: Final = 1000
"""Checkpoints in one log entry (etcd: maxLeaseCheckpointBatchSize)."""
LEASE_PRIMARY_RETRY_SECONDS: Final = 0.05
"""How often a request that needs the leader's lessor looks for it (etcd ``v3_server.go``: LeaseRenew)."""
LEASE_ATTEMPT_SECONDS: Final = 2.0
"""How long a follower waits for one answer of the leader about leases before it asks again, perhaps another
leader (etcd: the whole request timeout; its leader answers after one second, leasehttp.applyTimeout)."""
LEASE_APPLY_SECONDS: Final = 1.0
"""How long the leader may take to apply what is committed before it answers (leasehttp: applyTimeout)."""
LEASE_LEADER_RETRY_SECONDS: Final = 0.25
"""How often it looks while there is no leader at all (etcd ``waitLeader``: once in an election timeout)."""
LEASE_REQUESTS_TO_LEADER: Final = 4
"""Single renewals that a follower has under way, each on a connection of its own (etcd: one a stream)."""
MAX_LEASES_PER_REQUEST: Final = 5000
"""Renewals in one request to the leader, some 10 ms of its time (etcd: one)."""
LEASE_BODY_BYTES: Final = 256 * 1024
"""The body of such a request: at most 22 bytes for each lease."""
KEEPALIVES_PER_TURN: Final = 1000
"""Keepalives of one stream answered in a row, some 10 ms, before others are served."""
KEEPALIVES_PER_WRITE: Final = 300
"""Answers gathered for one write; at fifty bytes each they fit into one frame."""
MAX_NO_LEADER_ELECTIONS: Final = 3
"""Election timeouts without a leader after which streams that asked for one end (etcd: maxNoLeaderCnt)."""

# --- lock and election ----------------------------------------------------------------------------------
MAX_WAITING_CALLS: Final = 20_000
"""Lock calls, campaigns and observers of elections that wait, some 5 KiB each with their task (etcd: no
bound,
three goroutines each)."""
MAX_WAITING_CALLS_PER_CONNECTION: Final = 10_000
"""Of these, from one connection: no client keeps all others from waiting (etcd: no bound)."""
ELECTION_OBSERVER_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""Values of leaders that wait for an observer who does not read; beyond it those in between are dropped
(etcd:
no bound)."""

# --- v2 (api/v2) ----------------------------------------------------------------------------------------
V2_FORM_PAIRS: Final = 1000
"""Pairs in one query or form; etcd knows a dozen names, and each pair costs the loop a microsecond (etcd: no
bound)."""
V2_FORM_FACTOR: Final = 3
"""A form's bytes are at most so many for each byte it stands for, as ``%41``; with MAX_REQUEST_BYTES that
bounds a v2 body (Go's form parser: 10 MiB)."""
V2_FORM_OVERHEAD_BYTES: Final = 64 * 1024
"""Names and other parameters beside the value in such a body."""
V2_PATH_COST_BYTES: Final = 8 * 1024 * 1024
"""A path's parts times its bytes: each directory that a key needs has a path of its own, so a request of
40 kB could make 20,000 directories of 400 MB together (etcd: no bound)."""

# --- peers (peer) ---------------------------------------------------------------------------------------
PEER_READ_SECONDS: Final = 5.0
"""A stream on which nothing comes for so long is lost (etcd ``rafthttp``: DefaultConnReadTimeout)."""
PEER_WRITE_SECONDS: Final = 5.0
"""A stream of which the peer takes not one byte for so long is given up (etcd: DefaultConnWriteTimeout)."""
PEER_CLOSE_SECONDS: Final = 0.5
"""How long streams may take to end at a shutdown before they are cut off (etcd: not at all)."""
PEER_HEARTBEAT_SECONDS: Final = PEER_READ_SECONDS / 3
"""How often a stream says that it is there (etcd ``stream.go``: ConnReadTimeout / 3)."""
PEER_DIAL_RETRY_SECONDS: Final = 0.1
"""Between two dials of one stream (etcd ``transport.go``: DialRetryFrequency, ten a second)."""
PEER_STREAM_QUEUE: Final = 4096
"""Messages that wait for a stream whose peer does not read; the rest is dropped and Raft told (etcd:
streamBufSize)."""
PEER_STREAM_QUEUE_BYTES: Final = RAFT_MAX_INFLIGHT_BYTES + 4 * RAFT_MAX_SIZE_PER_MESSAGE
"""The same in bytes of entries. What Raft lets be in flight fits; forwarded proposals may not add to it
without end (etcd: no bound)."""
PEER_STREAM_BUFFER_BYTES: Final = 1024 * 1024
"""Encoded bytes handed to a connection before messages wait as they are: one full MsgApp."""
PEER_ENTRY_FRAMES_BYTES: Final = 4 * RAFT_MAX_SIZE_PER_MESSAGE
"""Encoded entries kept because the next follower gets the same ones: a few full MsgApps."""
PEER_PIPELINE_QUEUE: Final = 64
"""Messages that wait for a POST to a peer without streams (etcd ``pipeline.go``: pipelineBufSize)."""
PEER_PIPELINE_CONNECTIONS: Final = 4
"""POSTs to one peer under way at once (etcd ``pipeline.go``: connPerPipeline)."""
PEER_POST_SECONDS: Final = 10.0
"""Longest wait for the answer to such a POST (etcd: none but TCP's; a worker would hang with its peer)."""
PEER_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""One message on a stream or in a POST. The largest that is sent has one entry, which no log takes above
MAX_WAL_RECORD_BYTES (etcd ``msg_codec.go``: readBytesLimit = 512 MiB, set aside at once; here bytes are only
kept as they come)."""
PEER_SNAPSHOT_MESSAGE_BYTES: Final = 512 * 1024 * 1024
"""The message before a snapshot's database: it holds the v2 store as JSON (etcd ``http.go``: 1 TiB)."""
PEER_SNAPSHOT_BYTES: Final = 1 << 40
"""A snapshot's upload, straight to the disk (etcd ``http.go``: snapshotLimitByte)."""
PEER_SNAPSHOT_UPLOADS: Final = 4
"""Uploads taken in at once: a leader sends one, a deposed one's may still be coming (etcd: no bound)."""
PEER_SNAPSHOT_PIECE_BYTES: Final = 256 * 1024
"""A piece of an upload given to the connection before it has to be asked again."""
PEER_SNAPSHOT_STALL_SECONDS: Final = 60.0
"""An upload of which the peer takes not one byte for so long is given up (etcd: none but TCP's)."""
PEER_SNAPSHOT_ANSWER_SECONDS: Final = 300.0
"""From an upload's last byte to its answer: the peer has to sync the file first (etcd: none but TCP's)."""
PEER_REMOTES: Final = 64
"""Members that asked us something before we knew them (``X-PeerURLs``); any request may name one, so the
oldest goes when there are more (etcd: no bound)."""
PEER_LABELS: Final = 128
"""Senders that metrics tell apart by the name that a request gives; the rest is one (etcd: no bound)."""
PEER_PROBE_BYTES: Final = 1024
"""The answer to a probe; it has some fifty."""
PEER_PROBE_SECONDS: Final = PEER_READ_SECONDS - 1
"""Between two probes of a peer, so that its connection stays open (etcd ``probing_status.go``)."""
PEER_PROBE_REPORT_SECONDS: Final = 30.0
"""How often the round-trip time of a healthy peer is recorded (etcd: statusMonitoringInterval)."""
PEER_PROBE_TROUBLE_SECONDS: Final = 5.0
"""How often an unhealthy one is reported (etcd: statusErrorInterval)."""
PEER_CLOCK_DRIFT_SECONDS: Final = 1.0
"""Clocks further apart than this are reported (etcd ``probing_status.go``)."""
PEER_CONNECT_SECONDS: Final = 1.0
"""Longest wait for a connection, TLS included; for Raft an election timeout comes on top (etcd: the same)."""
PEER_RESPONSE_BYTES: Final = 16 * 1024 * 1024
"""A peer's answer to a request of ours, where the caller names no other bound: a list of members is a few
KiB."""
PEER_RESPONSE_HEADER_BYTES: Final = 64 * 1024
"""Status line and headers of such an answer."""
PEER_IDLE_CONNECTIONS: Final = 4
"""Kept-alive connections to one address that wait for the next request."""
PEER_IDLE_SECONDS: Final = PEER_READ_SECONDS - 1
"""How long they wait: etcd's peers close a silent connection after five seconds."""

# --- v2 store (v2store) ---------------------------------------------------------------------------------
V2_HISTORY_EVENTS: Final = 1000
"""Events kept for watchers that begin in the past (etcd ``v2store``: ``newWatchHub(1000)``); it is part of
the snapshot's JSON, so it must not differ."""
V2_WATCHER_QUEUE_EVENTS: Final = 2000
"""Events that wait for a stream before it is closed: the whole history, and as much again while that is
written (etcd: a channel of 100; but here a batch of entries is applied before any stream is written)."""
V2_SYNC_SECONDS: Final = 0.5
"""How often the leader looks for v2 keys that have expired (etcd ``server.go``: SyncTicker)."""

# --- membership -----------------------------------------------------------------------------------------
HEALTH_INTERVAL_SECONDS: Final = 5.0
"""How long members must have been connected before one is added or removed (etcd: HealthInterval)."""
LEARNER_READY_SHARE: Final = 0.9
"""The share of the leader's log that a learner must have to get its vote (etcd: readyPercent)."""
LEAVE_SECONDS: Final = 1.0
"""A member that was removed stays for so long, to tell the others (etcd: stopWithDelay)."""
VERSION_MONITOR_SECONDS: Final = 4.0
"""How often the leader asks the members for their versions (etcd: monitorVersionInterval)."""
PEER_VERSION_SECONDS: Final = 5.0
"""How long a member may take to say its version (etcd: no bound but TCP's)."""
PEER_MEMBERS_SECONDS: Final = 10.0
"""How long a member may take to say who is in its cluster (etcd: GetClusterFromRemotePeers)."""
MAX_WAITING_MEMBER_CHANGES: Final = 1000
"""Calls that wait for a membership change, of which Raft takes one at a time (etcd: no bound)."""

# --- Starting in a cluster ----------------------------------------------------------------------------------

TICK_ADVANCE_WAIT_SECONDS: Final = 5.0
"""How long a starting member waits for connections before it gives up skipping a part of the first election's
timeout (etcd ``rafthttp.ConnReadTimeout``)."""
TICK_ADVANCE_LOOK_SECONDS: Final = 0.05
"""How often it looks (etcd ``adjustTicks``)."""
PEER_BOOTSTRAPPED_SECONDS: Final = 1.0
"""How long a member of a new cluster asks others whether it was one before (etcd ``bootstrapTimeout``)."""
COMMIT_NOTICE_SECONDS: Final = 0.002
"""How long a follower that nobody is known to wait at may not hear that entries are committed: enough for
the next append of a client that puts one value after another, far below a heartbeat."""
COMMIT_NOTICE_AWAITED_SECONDS: Final = 0.5
"""For how long after a forwarded proposal or read a follower is told at once."""

# --- auth -------------------------------------------------------------------------------------------------

MAX_AUTH_NAME_BYTES: Final = 511
"""Longest name of a user or a role: what LMDB takes as a key (etcd: bbolt's 32,768)."""
SIMPLE_TOKEN_TTL_SECONDS: Final = 300
"""How long a simple token is good if the flag says 0 (etcd ``simpleTokenTTLDefault``)."""
MAX_SIMPLE_TOKENS: Final = 200_000
"""Simple tokens that a member knows; those not used for longest go first (etcd: no bound)."""
TOKEN_WAIT_SECONDS: Final = 5.0
"""How long a call waits for this member to apply the entry of its token (etcd: the call's deadline)."""
MAX_CALLS_WAITING_FOR_TOKEN: Final = 1000
"""How many calls may wait so, since the index in a token is anybody's (etcd: no bound)."""
PASSWORD_THREADS: Final = 1
"""Threads that look at passwords, at a low priority (etcd: as many as there are calls)."""
MAX_PASSWORDS_WAITING: Final = 256
"""Calls that wait for their password to be looked at, 60 ms each (etcd: no bound)."""
MAX_PASSWORDS_WAITING_PER_CONNECTION: Final = 32
"""Of one connection."""
MAX_AUTH_CALLS: Final = 2000
"""Calls of the Auth service that wait for a password or for the log (etcd: no bound)."""
PASSWORDS_REMEMBERED: Final = 1000
"""Pairs of password and hash that were found right, as keyed hashes, so that they need no bcrypt again."""
JWT_KEY_CHECK_SECONDS: Final = 1.0
"""How often the files with the keys of tokens are looked at for changes (etcd: at start only)."""
MAX_JWT_BYTES: Final = 16_384
"""Longest token whose signature is looked at (etcd: what a header may have)."""

# --- TLS --------------------------------------------------------------------------------------------------

TLS_HANDSHAKES: Final = 1024
"""Connections of one listener that are not through their handshake; one more costs the oldest its place. A
begun one holds some 50 KiB (etcd: no bound)."""
TLS_HELLO_BYTES: Final = 64 * 1024
"""Bytes taken of a client before its handshake begins: one record of 16 KiB is what its hello needs."""
TLS_HANDSHAKES_PER_TURN: Final = 4
"""Handshakes that begin in one turn of the loop: 1 to 4 ms of signing, then requests are served again."""
TLS_FILES_CHECK_SECONDS: Final = 1.0
"""How old a look at certificate, key, authority and revocation files may be when a handshake begins (etcd
reads certificate, key and revocations at each)."""
TLS_FILES_WAIT_SECONDS: Final = 0.25
"""Longest wait for such a look; what was there before is used meanwhile."""

# --- discovery --------------------------------------------------------------------------------------------

DISCOVERY_REQUEST_SECONDS: Final = 5.0
"""A request to a v2 discovery service (etcd ``client/v2``: DefaultRequestTimeout)."""
DISCOVERY_WATCH_SECONDS: Final = 300.0
"""How long a member waits for others before it looks by itself, should the connection be dead (etcd: no
bound)."""
DISCOVERY_MAX_DOUBLINGS: Final = 8
"""Pauses before a service is asked again grow to 256 s (etcd: maxExpoentialRetries)."""
DISCOVERY_REDIRECTS: Final = 10
"""Redirects of one request that are followed (etcd ``client/v2``: DefaultCheckRedirect)."""
DISCOVERY_ANSWER_BYTES: Final = 1024 * 1024
"""Longest answer of a discovery service: ten thousand members (etcd: no bound)."""
DISCOVERY_DNS_SECONDS: Final = 10.0
"""How long name servers may take for an answer (Go's resolver: twice five seconds)."""
DISCOVERY_SERVICE_MAX_SIZE: Final = 50
"""Largest cluster that this member gives a token for: more voters than anybody should have (etcd's own
service: no bound)."""
DISCOVERY_SERVICE_DEFAULT_SIZE: Final = 3
"""Size of a cluster if none is asked for (etcd's own service: the same)."""
DISCOVERY_SERVICE_TOKENS: Final = 1000
"""Tokens that are alive at once, whoever asked for them (etcd's own service: no bound)."""
DISCOVERY_SERVICE_BURST: Final = 20
"""New tokens that a member gives at once, and"""
DISCOVERY_SERVICE_SECONDS_PER_TOKEN: Final = 1.0
"""how long it takes until there may be one more (etcd's own service: no bound)."""
DISCOVERY_SERVICE_KEYS_PER_TOKEN: Final = 200
"""Members that may register below one token: four times the largest cluster, as some are late."""
DISCOVERY_SERVICE_VALUE_BYTES: Final = 4096
"""Longest registration of a member: some thirty peer URLs."""

# --- proxies ----------------------------------------------------------------------------------------------

PROXY_WHOLE_BODY_BYTES: Final = 1024 * 1024
"""Answers up to here are taken whole before they are passed on; longer ones go piece by piece."""
PROXY_LONG_REFRESH_SECONDS: Final = 30.0
"""A v2 proxy that looks for members no more often than this, and has found none (etcd ``director.go``:
defaultRefreshInterval) ..."""
PROXY_EMPTY_REFRESH_SECONDS: Final = 1.0
"""... looks again after this."""
PROXY_RETRY_SECONDS: Final = 0.2
"""Before a proxy asks again on behalf of somebody who waits for events (etcd's grpc-proxy: 0.1)."""
PROXY_GRACE_SECONDS: Final = 1.0
"""How long calls may go on after a proxy was told to end (etcd's end at once)."""
GATEWAY_CONNECT_SECONDS: Final = 5.0
"""Longest wait for an endpoint behind the gateway (etcd: the kernel's, two minutes)."""
GATEWAY_PIECE_BYTES: Final = 64 * 1024
"""Read at once from one side of a gateway's connection; at most twice as much waits for the other side."""
GATEWAY_CONNECTIONS: Final = 16_384
"""Connections through a gateway, each with two descriptors; the rest waits in the kernel's queue (etcd: no
bound)."""
PROXY_CALLS: Final = 20_000
"""Unary calls through a grpc-proxy that wait for members (etcd: no bound)."""
PROXY_CACHE_ENTRIES: Final = 2048
"""Answers that a grpc-proxy keeps (etcd ``cache/store.go``: DefaultMaxEntries)."""
PROXY_CACHE_BYTES: Final = 64 * 1024 * 1024
"""... and their bytes (etcd: no bound)."""
PROXY_CACHE_OVERHEAD_BYTES: Final = 512
"""What an entry of the cache takes besides its bytes."""
PROXY_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Longest request that a grpc-proxy reads (gRPC's default, which etcd's proxy leaves as it is)."""
PROXY_STREAM_RETRY_SECONDS: Final = 0.1
"""Between attempts to open a stream to members (etcd ``leader.go``: retryPerSecond)."""
PROXY_STREAM_WATCHERS: Final = 10_000
"""Watchers of one client's stream at a grpc-proxy (etcd: no bound)."""
PROXY_RENEWAL_SHARE_SECONDS: Final = 0.5
"""A lease renewed so recently is not renewed again: whoever asks gets that answer, less the second that may
have passed."""
PROXY_RENEWALS: Final = 100_000
"""Leases whose renewal is under way or remembered by a grpc-proxy."""
PROXY_PEERS: Final = 10_000
"""Proxies that one shows as members (etcd: no bound)."""

# --- names in a first start's URLs ------------------------------------------------------------------------

RESOLVE_ADVERTISED_SECONDS: Final = 30.0
"""How long a member waits for the names in its own peer URLs to resolve (etcd: advertiseMatchesCluster)."""
RESOLVE_AGAIN_SECONDS: Final = 1.0
"""Pause between two attempts (etcd pkg/netutil: retryInterval)."""
