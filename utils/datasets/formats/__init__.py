"""Label formats: readers of annotation files."""
