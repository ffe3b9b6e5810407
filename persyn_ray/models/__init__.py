"""Models in plain torch and transformers: no Ray, no Arrow, no knowledge of where they run."""
