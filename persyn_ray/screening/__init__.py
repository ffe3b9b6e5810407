"""Will routing pay? A parallel table, or a run's rewards, judged before anything is generated."""
