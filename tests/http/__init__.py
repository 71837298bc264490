"""HTTP/1.1, the shared port and the endpoints on it, over real sockets."""  # noqa: A005 - a package of ours
