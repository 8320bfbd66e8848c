"""Generation from the learnt distribution of tokens."""
