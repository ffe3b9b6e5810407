"""The arithmetic of PerSyn: numpy in, numpy out; no torch, Arrow, Ray or settings objects."""
