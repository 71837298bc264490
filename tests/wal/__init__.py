"""The log on disk: against a dumb model, against a disk that lies, and against etcd itself."""
