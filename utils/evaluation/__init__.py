"""Validation: a network over a data set, its metrics, and the files it leaves behind."""
