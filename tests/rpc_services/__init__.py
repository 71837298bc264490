"""Health and reflection over gRPC, asked by grpcio."""
