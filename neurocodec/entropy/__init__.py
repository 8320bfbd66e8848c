"""Tokens to bytes and back, exactly: integers only."""
