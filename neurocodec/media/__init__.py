"""Ordinary media files in and out, through PyAV."""
