"""What the foreign table finds, each in a few lines that use the foreign library alone.

Every script runs by itself, says one sentence, and has ``main() -> float | bool``, the number the sentence is about.
Seen with diffusers 0.42.1 and k-diffusion 0.1.1.post1.
"""
