"""Sphinx: the guide in Markdown, the API from docstrings. `make docs`; needs no network."""

from shapelaw.version import VERSION

project = "shapelaw"
author = "the shapelaw developers"
copyright = author
version = release = VERSION
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
autosummary_generate = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
html_theme = "furo"
html_title = f"shapelaw {VERSION}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
suppress_warnings = ["toc.empty_glob", "ref.python"]
