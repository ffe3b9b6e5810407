"""Fixtures of tests on object stores."""

from ..s3_server import s3, server

__all__ = ["s3", "server"]
