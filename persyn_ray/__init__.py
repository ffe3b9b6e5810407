"""PerSyn on Ray: send each prompt to the teacher the student will learn most from."""

__version__ = "0.1.0"
