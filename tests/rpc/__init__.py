"""Tests of the port: HTTP/2, gRPC, HTTP/1.1, the choice between them."""
