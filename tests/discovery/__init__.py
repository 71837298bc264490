"""How clusters begin whose members do not know each other: real members, services, name servers."""
