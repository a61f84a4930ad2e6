"""Text encoders: WordLlama, ONNX models, and endpoints."""
