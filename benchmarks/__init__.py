"""How fast vae_np trains, beside PyTorch, JAX and the matrix products of a step alone: `python -m benchmarks`"""
