"""Encoder and decoder: where media, tokenizer, entropy coding and bitstream meet."""
