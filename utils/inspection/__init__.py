"""Inspection of a data set: what is wrong with images and labels, and a page that shows it. Nothing is changed."""
