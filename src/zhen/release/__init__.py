"""The last stage: what goes out of the house, with a card whose figures come from records, and the run's report."""
