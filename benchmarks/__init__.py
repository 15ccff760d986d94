"""How fast the training step is: beside PyTorch, beside JAX, and beside its matrix products alone. `python -m benchmarks`"""
