"""Answers that are programs: run against tests in confined processes, and outputs predicted."""
