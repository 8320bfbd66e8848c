"""Training of tokenizers (and, later, generators)."""
