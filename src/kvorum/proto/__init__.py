"""The wire: ``.proto`` files written from ``facts/wire.json``, what protoc makes of them, and hand-made
bytes.

``wire`` holds the few encoders that hot paths use instead of message objects. ``make proto`` regenerates the
``*_pb2`` modules; nothing here knows what a message means.
"""
