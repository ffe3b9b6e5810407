"""Property tests: the same examples on every run, no clock (machines are shared), no database."""

from hypothesis import settings

settings.register_profile("method", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("method")
