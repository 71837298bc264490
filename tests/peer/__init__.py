"""Tests of the peers' room: codecs by property, transports over real sockets, and beside real etcd."""
