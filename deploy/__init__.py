"""Only runs commands: local stack files, compose, schemas."""
