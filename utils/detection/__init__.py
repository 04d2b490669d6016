"""Detection: pictures from any source, and results as pictures, tables and files."""
