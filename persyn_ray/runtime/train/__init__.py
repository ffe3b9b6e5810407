"""Ray Train: fitting the router and fine-tuning students."""
