"""Parts of `benchmarks/sft.py`: the same examples for us and for TRL, and what it costs."""
