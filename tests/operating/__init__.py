"""How clusters begin, end and are moved: each way that etcd's documents give, with real processes."""
