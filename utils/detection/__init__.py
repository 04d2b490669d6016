"""Detection: images from any source; results as images, tables and files."""
