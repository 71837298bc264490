"""A whole cluster on one thread, from one seed: real members on a simulated machine, and judges who watch
them.

``python -m kvorum.sim --seed N`` runs one storm; the same seed gives the same trace, always.

| module | what |
|---|---|
| ``loop.py`` | an asyncio loop whose time is a number |
| ``trace.py`` | what happened, as lines and as one hash; how a failure is told |
| ``machine.py`` | what one member stands on: clock, disk, log writer, the process that may die |
| ``network.py`` | messages between members: lost, late, twice, out of order, one way only |
| ``member.py`` | a member, put together from the real parts and opened by the real ``server/bootstrap.py`` |
| ``cluster.py`` | all of them |
| ``profile.py`` | what a seed means: sizes, rates, which faults there are |
| ``nemesis.py`` | the faults |
| ``client.py``, ``watching.py``, ``leasing.py`` | the workload and what it is told |
| ``model.py`` | etcd as a dictionary: what each entry should have done |
| ``oracle.py`` | holds every answer against the model: linearizability, watches, leases |
| ``judge.py`` | Raft's own promises, across members, after every step |
| ``registers.py`` | a second opinion: a search for a linearization, key by key, that knows of no log |
| ``run.py`` | one seed from start to verdict |
| ``bugs.py`` | deliberate mistakes, by name, each with who must find it and how soon |

May import every core and ``server``; nothing imports it. Deliberately not here: sockets, HTTP/2 and the peer
protocol's framing (``tests/cluster`` runs those with real processes), and any flag in production code that
would know of a simulation.
"""
