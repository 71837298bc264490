"""Kvorum and etcd 3.5.1 side by side: ``make bench``, or ``python -m bench [--quick] [--only cluster,…]``.

Both servers run in turn on this machine, on the same file system, with their default flags (so with every
durability they promise), under the same load. Rounds alternate, and so does which server goes first; the
table shows medians over the rounds and the ratio between the two. Read ratios, not digits: on two cores the
load generator takes its share from the server it loads. Other work on the machine costs etcd, which uses
every core, more than Kvorum: run it on a quiet machine, and look at the last column, the ratio of the
best rounds.

The load comes from ``h2load`` (C, cheap, no relation to either server). It sends one fixed body, that is one
key; a second generator of our own (``generator``: precomputed frames on plain sockets) writes distinct keys
and loads the million-key store. It costs more than h2load, so its rows flatter the server that uses fewer
cores; they are marked.

What is measured is checked: each body is first sent through grpcio and must be answered with status OK; after
a row of writes the revision must have grown by exactly the number of requests; a row of reads must have
brought exactly the bytes that one answer has, times the number of requests. h2load sees HTTP status only, and
a refused gRPC call is 200 to it. Of watches every event is counted, and one message in 61 is taken apart; the
same of keepalives; leases must not expire early, and must take their keys with them.

Four parts: rows on a small fresh store (``small``); rows of watches and leases on another (``standing``),
loaded by ``streams``, of which the table says how much of a core it took; rows of three members
(``cluster``), through the leader and through a follower, and how long it takes until writes go on when the
leader is killed; and rows on a store of a million keys of 256 bytes (``large``), which is loaded once for
each server, in an order that jumps about as real writes do, and then started anew every round. With
``--quick`` there are fewer watchers and leases than the rows' titles say.

Results go to ``bench/out/`` as JSON and as Markdown ready for ``bench/RESULTS.md``. It is a benchmark, not a
test: nothing fails when a figure is low.
"""
