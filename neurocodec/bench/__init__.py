"""Rate-distortion curves against other codecs, speed, and comparisons of two videos."""
