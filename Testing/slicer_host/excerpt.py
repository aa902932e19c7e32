"""Write slicer_api.json: what Python reaches of the Qt, CTK and qMRML classes that the stand-in shows.

    python excerpt.py slicer_api.json.gz

The input lists dir() of every class inside a running 3D Slicer, and what each class declares in its C++ header. The
excerpt keeps, for each class below, the attributes it adds to those of its base, so that the file stays small.
"""

import gzip
import json
import sys
from pathlib import Path

CLASSES = """
QAbstractButton QAction QApplication QButtonGroup QCheckBox QComboBox QDialog QDoubleSpinBox QFileDialog QFormLayout
QFrame QGridLayout QGroupBox QHBoxLayout QHeaderView QLabel QLineEdit QMainWindow QMenu QMessageBox QObject
QPlainTextEdit QProcess QProgressBar QPushButton QRadioButton QScrollArea QShortcut QSlider QSpinBox QSplitter
QStackedWidget QTableWidget QTextBrowser QTextEdit QTimer QToolButton QUiLoader QVBoxLayout QWidget
ctkAxesWidget ctkCollapsibleButton ctkDICOMDatabase ctkDICOMIndexer ctkFittedTextBrowser ctkLayoutFactory
ctkLayoutManager ctkMessageBox ctkPathLineEdit ctkSliderWidget ctkVTKAbstractView ctkVTKChartView ctkVTKRenderView
ctkVTKSliceView qMRMLAbstractViewWidget qMRMLLayoutManager qMRMLNodeComboBox qMRMLPlotView qMRMLPlotWidget
qMRMLSegmentEditorWidget qMRMLSliceView qMRMLSliceWidget qMRMLTableView qMRMLTableWidget qMRMLThreeDView
qMRMLThreeDWidget qMRMLWidget qSlicerAbstractCoreModule qSlicerAbstractModule qSlicerAbstractModuleFactoryManager
qSlicerAbstractModuleWidget qSlicerApplication qSlicerCoreApplication qSlicerCoreIOManager qSlicerExtensionsManagerModel
qSlicerIOManager qSlicerLayoutManager qSlicerLoadableModule qSlicerMainWindow qSlicerModuleFactoryManager
qSlicerModuleManager qSlicerModuleSelectorToolBar qSlicerScriptedLoadableModule qSlicerScriptedLoadableModuleWidget
qSlicerWidget
""".split()

BASES = {  # the bases of Qt's own classes are not in the list
    "QAbstractButton": "QWidget",
    "QAction": "QObject",
    "QApplication": "QObject",
    "QButtonGroup": "QObject",
    "QCheckBox": "QAbstractButton",
    "QComboBox": "QWidget",
    "QDialog": "QWidget",
    "QDoubleSpinBox": "QWidget",
    "QFileDialog": "QDialog",
    "QFormLayout": "QObject",
    "QFrame": "QWidget",
    "QGridLayout": "QObject",
    "QGroupBox": "QWidget",
    "QHBoxLayout": "QObject",
    "QHeaderView": "QFrame",
    "QLabel": "QFrame",
    "QLineEdit": "QWidget",
    "QMainWindow": "QWidget",
    "QMenu": "QWidget",
    "QMessageBox": "QDialog",
    "QPlainTextEdit": "QFrame",
    "QProcess": "QObject",
    "QProgressBar": "QWidget",
    "QPushButton": "QAbstractButton",
    "QRadioButton": "QAbstractButton",
    "QScrollArea": "QFrame",
    "QShortcut": "QObject",
    "QSlider": "QWidget",
    "QSpinBox": "QWidget",
    "QSplitter": "QFrame",
    "QStackedWidget": "QFrame",
    "QTableWidget": "QFrame",
    "QTextBrowser": "QTextEdit",
    "QTextEdit": "QFrame",
    "QTimer": "QObject",
    "QToolBar": "QWidget",
    "QToolButton": "QAbstractButton",
    "QUiLoader": "QObject",
    "QVBoxLayout": "QObject",
    "QWidget": "QObject",
    "ctkFittedTextBrowser": "QTextBrowser",
}


def excerpt(source) -> str:
    """The excerpt of that file, as JSON with a class a line."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        full = json.load(file)
    classes = full["classes"]

    def attributes(name):
        """dir() of the class, or what it and its bases declare where the running application did not list it."""
        entry = classes.get(name)
        if entry is None:
            return set()
        if entry.get("attributes"):
            return set(entry["attributes"])
        declared = {
            member for kind in ("properties", "signals", "slots", "methods") for member in entry.get(kind) or []
        }
        return declared | attributes(base_of(name))

    def base_of(name):
        return BASES.get(name) or classes.get(name, {}).get("base")

    entries = {}
    for name in CLASSES:
        base = base_of(name)
        while base and base not in CLASSES:
            base = base_of(base)
        entry = {"base": base, "attributes": sorted(attributes(name) - (attributes(base) if base else set()))}
        removed = sorted(attributes(base) - attributes(name)) if base else []
        if removed:
            entry["removed"] = removed
        for kind in ("properties", "signals"):
            if classes[name].get(kind):
                entry[kind] = classes[name][kind]
        entries[name] = entry
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    return f'{{"slicer": {json.dumps(full["slicer"])},\n"classes": {{\n{rows}\n}}}}\n'


if __name__ == "__main__":
    Path(__file__).with_name("slicer_api.json").write_text(excerpt(sys.argv[1]), encoding="utf-8")
