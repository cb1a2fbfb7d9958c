"""TensorFlow GPT-2 checkpoints into `models/NAME`, without TensorFlow and without torch."""
