"""Text to tokens: sources, tokenizers, the cached corpus."""
