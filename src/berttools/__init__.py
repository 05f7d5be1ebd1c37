"""Fine-tune encoders, all of them or their critical layers, and see how far each layer moved."""
