"""The commands of `shapelaw`, one or two to a module. Only shapelaw.cli imports from here.

Each reads its options, calls one public function, and prints; none computes. Rooms are imported
inside the commands, so that `shapelaw --help` answers at once.
"""
