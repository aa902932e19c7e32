"""The choices of the CTDefaceEval panel."""

import enum

import slicer
from CTDefaceEvalLib.face_models import DEFAULT_MODELS, CenterFace, FaceNet, InsightFace, Mtcnn, OpenCvHaar, YuNet
from CTDefaceEvalLib.views import PRESETS
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

FOLDER_SETTING = "CTDeface/FaceModelFolder"


def modelFolder():
    """Folder of the face models that are loaded from one, or None. This computer remembers it, not the scene."""
    return slicer.util.settingsValue(FOLDER_SETTING, "") or None


class Rendering(enum.Enum):
    """How a head is drawn."""

    SURFACE = "surface"
    VOLUME = "volume"

    def label(self):
        return {Rendering.SURFACE: _("Skin surface (fast)"), Rendering.VOLUME: _("Volume rendering")}[self]


class Picture(enum.Enum):
    """Which pictures the live meter scores."""

    SEEN = "seen"
    STANDARD = "standard"

    def label(self):
        return {Picture.SEEN: _("What the views show"), Picture.STANDARD: _("Standard rendering")}[self]


class FaceModel(enum.Enum):
    """Which face models look at the pictures."""

    DLIB = "dlib"
    INSIGHTFACE = "insightface"
    FACENET = "facenet"
    HAAR = "haar"
    YUNET = "yunet"
    CENTERFACE = "centerface"
    MTCNN = "mtcnn"

    def label(self):
        return {
            FaceModel.DLIB: _("dlib"),
            FaceModel.INSIGHTFACE: _("insightface"),
            FaceModel.FACENET: _("MTCNN and FaceNet"),
            FaceModel.HAAR: _("OpenCV Haar (advice only)"),
            FaceModel.YUNET: _("OpenCV YuNet and SFace"),
            FaceModel.CENTERFACE: _("CenterFace (finds faces only)"),
            FaceModel.MTCNN: _("MTCNN (finds faces only)"),
        }[self]

    @property
    def live(self):
        """The model of the live meter."""
        return self.all[0]

    @property
    def all(self):
        """The models of sweeps and attacks."""
        return {
            FaceModel.DLIB: DEFAULT_MODELS,
            FaceModel.INSIGHTFACE: (InsightFace.name,),
            FaceModel.FACENET: (FaceNet.name,),
            FaceModel.HAAR: (OpenCvHaar.name,),
            FaceModel.YUNET: (YuNet.name,),
            FaceModel.CENTERFACE: (CenterFace.name,),
            FaceModel.MTCNN: (Mtcnn.name,),
        }[self]


class Views(enum.Enum):
    """From how many sides a sweep looks at the heads."""

    DEFAULT = "default"
    QUICK = "quick"
    STUDY = "study"

    def label(self):
        text = {Views.DEFAULT: _("Default"), Views.QUICK: _("Quick"), Views.STUDY: _("As in the study")}[self]
        return _("{name} ({number} pictures)").format(name=text, number=len(PRESETS[self.value]))


@parameterNodeWrapper
class CTDefaceEvalParameterNode:
    """Every choice of the panel. It is saved with the scene; file names are not, since they may name a patient."""

    originalVolume: vtkMRMLScalarVolumeNode
    defacedVolume: vtkMRMLScalarVolumeNode
    rendering: Rendering = Rendering.SURFACE
    liveMeter: bool = True
    picture: Picture = Picture.SEEN
    faceModel: FaceModel = FaceModel.DLIB
    views: Views = Views.DEFAULT
    attackViews: Views = Views.QUICK
    reportPictures: bool = True
    cohortViews: Views = Views.STUDY
    cohortPreservation: bool = False
    cohortLinkage: bool = False
