"""A stand-in for the 3D Slicer application, so that scripted modules run in pytest without Slicer.

Real: the MRML scene, logics, displayable managers and slicer.util (package slicer-core), Qt (PySide6, offscreen), VTK.
Stand-ins: the PythonQt view of Qt, CTK and qMRML widgets, ScriptedLoadableModule, parameterNodeWrapper, the
application itself. ``start()`` puts all of it in place; importing the package changes nothing.
"""

from __future__ import annotations

import os
import sys
import types


def start(with_main_window: bool = True):
    """Start the application, once in a process, and return the module ``application``."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    import slicer

    from . import pythonqt

    pythonqt.install()
    sys.excepthook = lambda kind, error, trace: pythonqt.report(error)  # what a VTK observer raises ends here
    ctk = sys.modules["ctk"] = types.ModuleType("ctk")
    from . import dicom, widgets

    for name in ("qMRMLWidget", "qSlicerWidget", "qMRMLNodeComboBox", "qMRMLSegmentEditorWidget", "qMRMLTableView"):
        setattr(slicer, name, getattr(widgets, name))
    for name in ("ctkCollapsibleButton", "ctkSliderWidget", "ctkPathLineEdit", "ctkMessageBox"):
        setattr(ctk, name, getattr(widgets, name))

    ctk.ctkDICOMDatabase, ctk.ctkDICOMIndexer = dicom.ctkDICOMDatabase, dicom.ctkDICOMIndexer

    from . import application

    slicer.qSlicerScriptedLoadableModule = application.qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = application.qSlicerScriptedLoadableModuleWidget
    application.start(with_main_window)

    from . import packaging, parameter_node, sample_data, scripted, views

    ctk.ctkAxesWidget = views.ctkAxesWidget
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    for name, module in {
        "slicer.i18n": i18n,
        "slicer.packaging": packaging,
        "slicer.ScriptedLoadableModule": scripted,
        "slicer.parameterNodeWrapper": parameter_node,
        "SampleData": sample_data,
    }.items():
        sys.modules[name] = module
        setattr(slicer, name.rpartition(".")[2], module)
    return application
