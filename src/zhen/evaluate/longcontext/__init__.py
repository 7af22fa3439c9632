"""Long context: keys hidden in long texts and asked for, and the loss by position."""
