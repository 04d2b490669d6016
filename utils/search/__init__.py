"""Searches of hyper-parameters and of loss curves."""
