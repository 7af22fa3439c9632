"""The room of `evaluate`: scores of models beside references, with what every score is made of."""
