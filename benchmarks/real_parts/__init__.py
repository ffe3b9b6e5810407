"""Parts of real_evidence.py."""
