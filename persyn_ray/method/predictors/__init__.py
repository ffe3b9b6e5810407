"""Predictors of rewards without a fitted network: constant, per task, k-NN, linear and stacked."""
