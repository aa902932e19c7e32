"""Python packages of Slicer, by the means that the running Slicer has."""

import importlib
import importlib.metadata

import slicer


def isInstalled(name):
    """Whether a distribution is there, of any version."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install(requirements):
    """Install what of the requirements is not there yet. Ask before; the window stands still meanwhile.

    :param requirements: as pip takes them, a list of texts.
    """
    try:
        from slicer import packaging
    except ImportError:  # Slicer up to 5.10
        slicer.util.pip_install(requirements)
    else:  # which also tells when what was loaded before has to be loaded anew
        packaging.pip_ensure(requirements, prompt_install=False, requester="CTDeface")
    importlib.invalidate_caches()
