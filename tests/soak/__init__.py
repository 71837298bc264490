"""The long run: real members on loopback, killed and stopped at random under load, every history checked.

``make soak``, or ``python -m tests.soak --minutes 10``. An episode is half a minute of faults under the load
of several clients; then everybody is let go on, all members must agree, and the record of every client is
held against what each member says has happened (``tests.support.history``: no acknowledged write lost, none
twice, reads linearizable). The seed, which is printed, chooses the faults and what clients do; when they
hit a process is the machine's to decide, so a seed does not repeat a run exactly.
"""
