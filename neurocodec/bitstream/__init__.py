"""The .nc file as bytes. Normative text: ``bitstream_spec.md``. Imports neither torch nor av."""
