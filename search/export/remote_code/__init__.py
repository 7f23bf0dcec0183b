"""Model code that travels with an exported model that keeps its shared blocks shared.

The two modules are copied beside the weights and are loaded by `transformers` with
`trust_remote_code=True`; nothing here imports them.
"""
