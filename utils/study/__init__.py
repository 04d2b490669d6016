"""Studies: grids of presets and seeds, their rows, tables and curves."""
