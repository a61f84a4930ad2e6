"""Build the ONNX files of encoders from weights that packages ship."""
