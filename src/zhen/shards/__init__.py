"""Tokenised files: the kept and the held-out documents as token ids, by source."""
