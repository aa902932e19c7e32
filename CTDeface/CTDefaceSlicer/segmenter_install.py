"""Install what a segmenter needs, with the installers of the extensions that know how.

torch, nnunetv2 and TotalSegmentator are never installed by pip from here: the PyTorch extension chooses the torch that
suits the graphics card, and the two others leave alone what Slicer brings itself.
"""

import importlib
import importlib.metadata

import slicer
from slicer.i18n import tr as _

EXTENSIONS = {"nnunet": ("PyTorch", "NNUNet"), "totalsegmentator": ("PyTorch", "TotalSegmentator")}
MODULES = {"PyTorch": "PyTorchUtils", "NNUNet": "SlicerNNUNetLib", "TotalSegmentator": "TotalSegmentator"}
"""What of an extension can be imported once Slicer was started with it."""


def install(extra):
    """Install the packages of a segmenter, after asking; first the extensions that install them.

    :param extra: ``EXTRA`` of its module.
    :return: what happened, in one sentence.
    :raises RuntimeError: when an extension or its installer fails.
    """
    extensions = EXTENSIONS[extra]
    missing = [name for name in extensions if importlib.util.find_spec(MODULES[name]) is None]
    if missing:
        return _installExtensions(missing)
    question = _(
        "PyTorch and {name} will be downloaded and installed into Slicer (about 3 GB, several minutes, during which "
        "the window stands still). Nothing of your scans is sent.\n\nInstall them now?"
    ).format(name=extensions[-1])
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        return _("Nothing was installed.")
    if {"nnunet": _installNNUNet, "totalsegmentator": _installTotalSegmentator}[extra]():
        return _restart(_("Slicer has to be started again to finish the installation."))
    importlib.invalidate_caches()
    return _("Installed.")


def _installExtensions(names):
    listed = _(" and ").join(names)
    question = _("The extension {names} is needed, from Slicer's server. Install it now?").format(names=listed)
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        return _("Nothing was installed.")
    manager = slicer.app.extensionsManagerModel()
    manager.interactive = False
    for name in names:
        if not manager.isExtensionInstalled(name) and not manager.installExtensionFromServer(name, False):
            raise RuntimeError(
                _("The extension {name} could not be installed: use the Extensions Manager.").format(name=name)
            )
    return _restart(_("Slicer has to be started again before it can use {names}.").format(names=listed))


def _installNNUNet():
    """Returns whether Slicer has to be started again."""
    from SlicerNNUNetLib import InstallLogic

    logic = InstallLogic()
    logic.doAskConfirmation = False  # asked already
    if logic.setupPythonRequirements("nnunetv2>=2.6") is False:  # older versions of the extension return nothing
        raise RuntimeError(_("nnU-Net could not be installed; Slicer's log says why."))
    return logic.needsRestart


def _installTotalSegmentator():
    from TotalSegmentator import TotalSegmentatorLogic

    try:
        importlib.metadata.version("TotalSegmentator")
        isThere = True
    except importlib.metadata.PackageNotFoundError:
        isThere = False
    TotalSegmentatorLogic().setupPythonRequirements(upgrade=isThere)
    return isThere  # what was loaded of the old version stays until then


def _restart(reason):
    question = _("{reason} What is not saved is lost.\n\nStart it again now?").format(reason=reason)
    if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        slicer.util.restart()
    return reason
