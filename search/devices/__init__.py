"""Devices: profiles and what they cost; calibration/ and engines/ make profiles."""
