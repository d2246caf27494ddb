"""Moves a Salt-run site from one OpenStack cloud to another, and cuts it over."""

from saltext.migrate._native import __version__

__all__ = ["__version__"]
