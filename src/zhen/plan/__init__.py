"""Plans: memory, time, communication, cost of a recipe's run beforehand, of its data before and its serving after."""
