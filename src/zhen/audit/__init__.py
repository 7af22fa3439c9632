"""Checks of what a checkpoint or a release says about itself: claims in, findings out. Needs no torch."""
