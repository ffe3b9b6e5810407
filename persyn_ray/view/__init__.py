"""A run in the browser: read-only, while it goes on and afterwards."""
