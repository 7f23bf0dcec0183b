"""Files and options that no model, device or run is behind, a folder of tests for each border."""
