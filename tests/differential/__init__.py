"""The same random programs against etcd 3.5.1 and Kvorum; every answer is compared, field by field."""
