"""GPT-2s as others saved them into `models/NAME`: TensorFlow's checkpoints without TensorFlow or torch, PyTorch's, GGUF."""
