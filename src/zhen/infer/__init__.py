"""The room of inference: text from a model, and how likely a text is to it."""
