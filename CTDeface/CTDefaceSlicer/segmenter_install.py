"""Install what a segmenter needs, with the installers of the extensions that know how.

torch, nnunetv2 and TotalSegmentator are never installed by pip from here: the PyTorch extension chooses the torch that
suits the graphics card, and the two others leave alone what Slicer brings itself. mede is, without its requirements: it
works with the torch that is there.
"""

import importlib
import importlib.util
import subprocess

import slicer
from CTDefaceLib import segmenters
from CTDefaceLib.segmenters import mede, nnunet_runtime, totalsegmentator
from slicer.i18n import tr as _

EXTENSIONS = {
    "mede": ("PyTorch",),
    "nnunet": ("PyTorch", "NNUNet"),
    "totalsegmentator": ("PyTorch", "NNUNet", "TotalSegmentator"),
}
MODULES = {"PyTorch": "PyTorchUtils", "NNUNet": "SlicerNNUNetLib", "TotalSegmentator": "TotalSegmentator"}
"""What of an extension can be imported once Slicer was started with it."""


def install(segmenter):
    """Install the packages of a segmenter, after asking; first the extensions that install them.

    :param segmenter: its module.
    :return: what happened, in one sentence.
    :raises RuntimeError: when an extension or its installer fails.
    """
    extensions = EXTENSIONS[segmenter.EXTRA]
    missing = [name for name in extensions if importlib.util.find_spec(MODULES[name]) is None]
    if missing:
        return _installExtensions(missing, segmenter.TITLE)
    isRestricted = isinstance(segmenter, segmenters.Restricted)
    question = _(
        "PyTorch and {name} will be downloaded and installed into Slicer: about 3 GB and several minutes, during which "
        "the window stands still. Slicer may have to be started again afterwards, so save first what you need. "
        "Nothing of your scans is sent.\n\nInstall them now?"
    ).format(name=segmenter.TITLE if isRestricted else extensions[-1])
    if isRestricted:
        question = _("{terms} By going on you agree to it.").format(terms=segmenter.TERMS) + "\n\n" + question
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        return _("Nothing was installed.")
    if INSTALLERS[segmenter.EXTRA]():
        return _restart(_("Slicer has to be started again to finish the installation."))
    state = segmenter.state(segmenters.Choice())
    if state.status is segmenters.Status.NO_PACKAGE:
        advice = _("{problem} Update the extension {name} in the Extensions Manager, and install it again.")
        raise RuntimeError(advice.format(problem=state.sentence, name=extensions[-1]))
    return _("Installed.")


def listed(names):
    """Names as in a sentence: A, A and B, or A, B and C."""
    *first, last = names
    return _("{names} and {last}").format(names=", ".join(first), last=last) if first else last


def _installExtensions(names, title):
    manager = slicer.app.extensionsManagerModel() if hasattr(slicer.app, "extensionsManagerModel") else None
    what = _("the extension {names}") if len(names) == 1 else _("the extensions {names}")
    what = what.format(names=listed(names))
    if manager is None:
        raise RuntimeError(
            _("{title} needs {what}, and this Slicer has no Extensions Manager: use a Slicer that has one.").format(
                title=title, what=what
            )
        )
    question = _(
        "{title} needs {what} of Slicer's server. Slicer has to be started again after that, so save first what you "
        "need; then press Install once more: PyTorch and the rest are about 3 GB. Nothing of your scans is sent."
        "\n\nInstall {what} now?"
    ).format(title=title, what=what)
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        return _("Nothing was installed.")
    wasInteractive, manager.interactive = manager.interactive, False  # no further questions about what these need
    try:
        for name in names:
            if manager.isExtensionInstalled(name):
                manager.setExtensionEnabled(name, True)
            elif not manager.installExtensionFromServer(name, False):
                raise RuntimeError(
                    _("The extension {name} could not be installed: use the Extensions Manager.").format(name=name)
                )
    finally:
        manager.interactive = wasInteractive
    return _restart(_("Slicer has to be started again before it can use {names}.").format(names=listed(names)))


def _installNNUNet():
    """Returns whether Slicer has to be started again."""
    from SlicerNNUNetLib import InstallLogic

    logic = InstallLogic()
    logic.doAskConfirmation = False  # asked already
    needed = "nnunetv2>=" + ".".join(map(str, nnunet_runtime.OLDEST))
    if logic.setupPythonRequirements(needed) is False:  # older versions of the extension return nothing
        raise RuntimeError(_("nnU-Net could not be installed; Slicer's log says why."))
    if not logic.needsRestart:  # PyTorch is not looked for where nnU-Net was there
        _installTorch()
    importlib.invalidate_caches()
    return logic.needsRestart


def _installTorch():
    from PyTorchUtils import PyTorchUtilsLogic

    if importlib.util.find_spec("torch") is None and PyTorchUtilsLogic().installTorch(askConfirmation=False) is None:
        raise RuntimeError(_("PyTorch could not be installed; Slicer's log says why."))


def _installMede():
    """Returns whether Slicer has to be started again."""
    _installTorch()
    try:
        slicer.util.pip_install(" ".join(mede.PIP))
    except subprocess.CalledProcessError as error:
        raise RuntimeError(_("mede could not be installed; Slicer's log says why.")) from error
    importlib.invalidate_caches()
    return False


def _installTotalSegmentator():
    """Returns whether Slicer has to be started again."""
    from TotalSegmentator import TotalSegmentatorLogic

    if _installNNUNet():
        return True
    isOld = () < nnunet_runtime.version(totalsegmentator.PACKAGE) < totalsegmentator.OLDEST
    TotalSegmentatorLogic().setupPythonRequirements(upgrade=isOld)
    importlib.invalidate_caches()
    return isOld  # what was loaded of the old version stays until then


def _restart(reason):
    question = _("{reason} What is not saved is lost.\n\nStart it again now?").format(reason=reason)
    if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
        slicer.util.restart()
    return reason


INSTALLERS = {"mede": _installMede, "nnunet": _installNNUNet, "totalsegmentator": _installTotalSegmentator}
"""What installs an extra once the extensions are there; it returns whether Slicer has to be started again."""
