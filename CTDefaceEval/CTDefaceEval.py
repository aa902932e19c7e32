import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


def helpText():
    return _(
        "Renders a head CT before and after defacing, scores how well a face is found and recognised in the "
        "renderings, and tries to recover the removed face. In this version the measurements are reached from "
        "Python, through CTDefaceEvalLib."
    )


class CTDefaceEval(ScriptedLoadableModule):
    """Measures whether the face in a head CT can still be found, recognised or recovered."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CTDeface Evaluation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Utilities")]
        self.parent.dependencies = ["CTDeface"]  # CTDefaceEvalLib imports CTDefaceLib
        self.parent.contributors = ["CTDeface contributors"]
        self.parent.helpText = helpText()


class CTDefaceEvalWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        label = qt.QLabel(helpText())
        label.wordWrap = True
        self.layout.addWidget(label)
        self.layout.addStretch(1)


class CTDefaceEvalTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_libraryIsReachable()

    def test_libraryIsReachable(self):
        import CTDefaceEvalLib
        import CTDefaceLib

        self.assertTrue(CTDefaceEvalLib.__doc__)
        self.assertTrue(CTDefaceLib.__version__)
