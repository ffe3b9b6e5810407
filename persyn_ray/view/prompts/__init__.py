"""The prompts of a run: lists by filter, and one with all that is known of it."""
