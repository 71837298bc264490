"""Random v2 programs against etcd 3.4.23 and Kvorum: every status, header and body is compared.

A program is a list of steps (``steps``) made from a seed (``programs``); ``runner`` plays it on both sides
and compares what ``normal`` leaves: etcd's index counts from where the program began, times agree within a
tolerance, and listings that were not asked to be sorted have no order (etcd's is a Go map's). What is left
out beyond that: what a stream that begins in the history is told after its first event, counts of reads (etcd
counts its own looks at users, too), Date, the framing of bodies, the values of X-Raft-Index and X-Raft-Term
(each member writes entries of its own) and the cluster's ID.

The long run: ``python -m tests.v2.differential --seeds 0-999``. It needs Debian's etcd (``make peers``).
"""
