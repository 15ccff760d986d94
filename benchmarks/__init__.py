"""How fast the training step is, beside PyTorch, JAX and its matrix products alone: `python -m benchmarks`"""
