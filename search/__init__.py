"""Distributed hyper-parameter search for HAAN: Ray Tune runs the trials, an Optuna study chooses and prunes."""
