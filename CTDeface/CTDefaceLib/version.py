"""The version, apart from the face of the library, so that every part of it can name it."""

__version__ = "0.2.0"
