"""The choices of the CTDeface panel."""

import enum
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Fill(enum.Enum):
    """What takes the place of the face."""

    SMOOTH = "smooth"
    FACE = "face"
    AIR = "air"
    CONSTANT = "constant"
    PERCENTILE = "percentile"
    BLUR = "blur"

    def label(self):
        return {
            Fill.SMOOTH: _("Smooth head without features (safest)"),
            Fill.FACE: _("Face of a synthetic person"),
            Fill.AIR: _("Air like this scanner's: a hole"),
            Fill.CONSTANT: _("One value (weaker)"),
            Fill.PERCENTILE: _("Low percentile (weaker)"),
            Fill.BLUR: _("Blur (weakest)"),
        }[self]


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
    """Every choice of the panel. It is saved with the scene; file names are not, since they may name a patient."""

    inputVolume: vtkMRMLScalarVolumeNode
    segmenter: str = "builtin"
    faceMask: vtkMRMLSegmentationNode
    showAfter: bool = False
    skinShift: Annotated[float, WithinRange(-300.0, 600.0)] = 0.0
    margin: Annotated[float, WithinRange(0.0, 20.0)] = 0.0
    fill: Fill = Fill.SMOOTH
    keepBone: bool = False
    sealed: bool = True
    asIs: bool = False
    defacedVolume: vtkMRMLScalarVolumeNode
    exportKind: ExportKind = ExportKind.FILE
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

    def defaceParameters(self):
        """The choices that the removal depends on, as the library names them."""
        return {
            "margin_mm": self.margin,
            "fill": self.fill.value,
            "strength": "light" if self.keepBone else "standard",
            "as_is": self.asIs or not self.sealed,
        }
