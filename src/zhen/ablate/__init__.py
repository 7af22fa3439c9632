"""Grids of runs over common data: which choice is better, by how much, and how sure that is."""
