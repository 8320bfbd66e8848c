"""Video tokenizers: frames to lookup-free-quantized tokens and back."""
