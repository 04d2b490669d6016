"""Data sets from one label format to another, and into splits."""
