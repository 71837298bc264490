"""Who is a member, and how that changes: rules, members in one process, and clusters held against etcd's."""
