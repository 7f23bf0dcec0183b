"""An architecture or trained weights as files for Hugging Face and llama.cpp."""
