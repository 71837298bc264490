"""Who may do what: users, roles, permissions and tokens, as values.

A side room of ``apply/``, which is the only one to change anything here. ``store.py`` holds users and roles
in the backend's tables and decides; ``coverage.py`` answers whether ranges of keys are covered;
``tokens.py`` and ``jwt_tokens.py`` know whose a token is; ``fair_queue.py`` says whose password is checked
next. May import nothing but the leaves that everybody may. Deliberately not here: hashing of passwords and
key files (``server/passwords.py``, ``server/tokens.py``), and which call needs what (``api/gate.py``).
"""
