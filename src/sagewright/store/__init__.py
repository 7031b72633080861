"""Rows: resources with desired and actual state, tags, S3 metadata. SQLAlchemy Core over SQLite or PostgreSQL."""
