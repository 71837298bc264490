"""Leases: granted, renewed, expired and revoked, with the keys attached to them. A sans-IO core.

``Lessor`` owns them. Grants, revocations, attachments and checkpoints come from ``apply``, the same on
every member; renewals and expiry are the leader's alone, and what it decides enters the log before it
counts.

May import: ``proto``, ``errors``, ``limits``. Not here: keys and their values (``mvcc``; the lessor names
the keys that a revocation must delete), proposals, timers (time is an argument), randomness (ids are
given).
"""
