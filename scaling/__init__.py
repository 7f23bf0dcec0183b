"""Ground floor: the mathematics of shape and loss. Imports no other room."""
