"""Find and remove the face in a head CT: the library below the CTDeface module, the command line and batches."""

__version__ = "0.1.0"
