"""The choices of the CTDeface panel."""

import enum
from typing import Annotated

from CTDefaceLib.parameters import DEPTH_MM, KEEP_MARGIN_MM
from CTDefaceLib.removal.fill import FILLS
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .kept import keptSegments


class FillChoice(enum.Enum):
    """What takes the place of the face."""

    def label(self):
        return {
            "smooth": _("Smooth skin"),
            "face": _("Synthetic face"),
            "air": _("Air (leaves a hole)"),
            "constant": _("One value (weak, for comparison)"),
            "percentile": _("Low percentile (weak, for comparison)"),
            "blur": _("Blur (weakest, for comparison)"),
        }.get(self.value, self.value)

    def explanation(self):
        return {
            "smooth": _("A head without features, with tissue and noise like those of this scan. Recommended."),
            "face": _("The face of a synthetic person, drawn at random. A face is found, and it is nobody's."),
            "air": _("The same region, filled with air like that around the head."),
            "constant": _("One value. Shows everybody which voxels were replaced."),
            "percentile": _("A low percentile of the volume, as CTA-DEFACE does. Shows which voxels were replaced."),
            "blur": _("The face blurred. Much of it can be made visible again."),
        }.get(self.value, "")


Fill = FillChoice("Fill", [(name.upper(), name) for name in FILLS])


class Strength(enum.Enum):
    """How much of the face is replaced."""

    LIGHT = "light"
    STANDARD = "standard"
    STRICT = "strict"

    def label(self):
        return {
            Strength.LIGHT: _("Light: facial bones stay"),
            Strength.STANDARD: _("Standard"),
            Strength.STRICT: _("Strict: deeper, with ears"),
        }[self]

    def explanation(self):
        return {
            Strength.LIGHT: _(
                "Soft tissue goes, down to the bones of the face, which stay: for head and neck, injuries, teeth. "
                "The price: a face can be estimated from its bones."
            ),
            Strength.STANDARD: _(
                "All goes that lies less than {mm:g} mm below the new skin, with the bone in it. "
                "The price: front of nose, jaws and brow can no longer be read."
            ),
            Strength.STRICT: _(
                "{mm:g} mm go, the ears as well, and the front of the frontal sinus as far as the brain allows. "
                "The price: much of orbits, sinuses, jaws and teeth."
            ),
        }[self].format(mm=DEPTH_MM[self.value])


class ExportKind(enum.Enum):
    """What the result is written as."""

    FILE = "file"
    FOLDER = "folder"
    DATABASE = "database"

    def label(self):
        return {
            ExportKind.FILE: _("Volume file"),
            ExportKind.FOLDER: _("DICOM series in a folder"),
            ExportKind.DATABASE: _("DICOM series in Slicer's database"),
        }[self]


class Headers(enum.Enum):
    """What becomes of DICOM headers."""

    KEEP = "keep"
    PS315 = "ps315"

    def label(self):
        return {
            Headers.KEEP: _("Keep (name the patient)"),
            Headers.PS315: _("Clean as in DICOM PS3.15"),
        }[self]


@parameterNodeWrapper
class CTDefaceParameterNode:
    """Every choice of the panel. It is saved with the scene; file names are not, since they may name a patient.

    Further series are those that the scene says are of the same patient, with ``addedSeries``, without
    ``leftOutSeries``.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    segmenter: str = "builtin"
    faceMask: vtkMRMLSegmentationNode
    showAfter: bool = False
    skinShift: Annotated[float, WithinRange(-300.0, 600.0)] = 0.0
    margin: Annotated[float, WithinRange(0.0, 20.0)] = 0.0
    fill: Fill = Fill.SMOOTH
    strength: Strength = Strength.STANDARD
    depth: Annotated[float, WithinRange(0.0, 40.0)] = 0.0
    asIs: bool = False
    keptSegmentation: vtkMRMLSegmentationNode
    keptSegmentIDs: list[str]
    keepMargin: Annotated[float, WithinRange(0.0, 10.0)] = KEEP_MARGIN_MM
    addedSeries: list[vtkMRMLScalarVolumeNode]
    leftOutSeries: list[vtkMRMLScalarVolumeNode]
    defacedVolume: vtkMRMLScalarVolumeNode
    exportKind: ExportKind = ExportKind.FILE
    exportFurther: bool = True
    headers: Headers = Headers.KEEP
    retainDates: bool = False
    retainPatient: bool = False
    retainDevice: bool = False
    retainInstitution: bool = False
    retainDescriptors: bool = False
    retainUids: bool = False
    retainSafePrivate: bool = False

    def retained(self):
        """What stays of DICOM headers that are cleaned, as the library names it; None where headers are kept."""
        choices = {
            "dates": self.retainDates,
            "patient": self.retainPatient,
            "device": self.retainDevice,
            "institution": self.retainInstitution,
            "descriptors": self.retainDescriptors,
            "uids": self.retainUids,
            "safe-private": self.retainSafePrivate,
        }
        return [name for name, kept in choices.items() if kept] if self.headers is Headers.PS315 else None

    def kept(self):
        """What must stay, as :class:`.kept.KeptSegments`; None where that is nothing."""
        if self.keptSegmentation is None:
            return None
        segmentation = self.keptSegmentation.GetSegmentation()
        there = [one for one in self.keptSegmentIDs if segmentation.GetSegment(one)]
        return keptSegments(self.keptSegmentation, there) if there else None

    def madeFrom(self):
        """Volume, mask, choices and what must stay: all that a preview or result is made from."""
        return self.inputVolume, self.faceMask, self.defaceParameters(), self.kept()

    def defaceParameters(self):
        """The choices that the removal depends on, as the library names them."""
        margin = {"keep_margin_mm": self.keepMargin} if self.kept() is not None else {}
        if self.asIs:
            return {"fill": self.fill.value, "as_is": True, **margin}
        return {
            **margin,
            "fill": self.fill.value,
            "strength": self.strength.value,
            "depth_mm": self.depth or None,
            "margin_mm": self.margin,
        }


def takeOldChoices(node):
    """Put what scenes of version 0.1 hold in place of choices that are no more.

    :param node: the vtkMRMLScriptedModuleNode, before it is wrapped.
    """
    old = {name: node.GetParameter(name) for name in ("keepBone", "sealed")}
    for name in old:
        node.UnsetParameter(name)
    if old["keepBone"] == "True":
        node.SetParameter("strength", Strength.LIGHT.name)
    if old["sealed"] == "False":
        node.SetParameter("asIs", "True")
