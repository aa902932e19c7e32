"""What the CTDefaceEval module does, for its panel and for scripts."""

import os
import pickle
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import slicer
from CTDefaceEvalLib import tasks, worker
from CTDefaceEvalLib.attacks import ATTACKS
from CTDefaceEvalLib.cohort_table import check_table, read_table
from CTDefaceEvalLib.face_models import DEFAULT_MODELS, DlibHog
from CTDefaceEvalLib.findings import Cohort, Evaluation, Scale
from CTDefaceEvalLib.report import check_report, write_cohort, write_evaluation
from CTDefaceSlicer.shared import nodes
from CTDefaceSlicer.shared.process import BackgroundProcess
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from . import head_views, results
from .cohort_node import pairsIn, volumeOf
from .head_views import DEFACED, ORIGINAL
from .parameters import CTDefaceEvalParameterNode, modelFolder


@dataclass
class Outcome:
    """Attributes
    ----------
    evaluation: a ``CTDefaceEvalLib.findings.Evaluation``
    recovery: name of the attack that gives most of the face back; empty when none was tried or none gave anything
    surface: the skin that it gives, as ``head_views.showSurface`` takes it, or None
    """

    evaluation: Evaluation
    recovery: str
    surface: dict | None


class CTDefaceEvalLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, with nodes as arguments and without any window.

    The long methods wait for their result and return it. With ``done`` given they return at once, and later call
    ``done(result)`` or ``failed(error)``, and ``progress(fraction, text)`` meanwhile.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.process = BackgroundProcess(worker)
        self.meterProcess = BackgroundProcess(worker)  # of its own, so that the meter goes on while a sweep runs

    def getParameterNode(self):
        return CTDefaceEvalParameterNode(super().getParameterNode())

    def defacedOf(self, volumeNode):
        """The latest volume that CTDeface made of another one, or None."""
        made = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetNodeReference("CTDeface.original") is volumeNode and not node.GetHideFromEditors()
        ]
        return made[-1] if made else None

    def headsKey(self, originalNode, defacedNode=None):
        """A value that changes with the volumes and where they are."""
        return [
            (
                node.GetID(),
                nodes.fingerprint(node),
                nodes.volumeGeometry(node),
                node.GetTransformNodeID(),
                head_views.worldMatrix(node).tolist(),
            )
            for node in (originalNode, defacedNode)
            if node is not None
        ]

    def findHeads(self, originalNode, defacedNode=None, **callbacks):
        """Find the head, and make the skin surfaces that the views show. Returns where it is, a ``head_views.Head``."""

        def finish(report, path):
            for node in volumeNodes.values():
                nodes.checkPresent(node)
            with np.load(path) as arrays:
                for name, node in volumeNodes.items():
                    parts = {part: arrays[f"{name} {part}"] for part in ("points", "normals", "triangles")}
                    head_views.showSurface(name, parts, node)
            return head_views.headOf(originalNode, report["axes"], report["center"])

        volumeNodes = {ORIGINAL: originalNode}
        nodes.checkCT(originalNode)
        defaced = None
        if defacedNode is not None:
            nodes.checkCT(defacedNode)
            volumeNodes[DEFACED] = defacedNode
            defaced = self.meterProcess.volumeMessage("defaced", defacedNode)
        return self.meterProcess.run(tasks.MakeSkin(defaced), originalNode, finish, suffix=".npz", **callbacks)

    def measureScale(self, originalNode, model=DlibHog.name, **callbacks):
        """What similar means for a scan: cosines of pairs of pictures of this head, and of it and other heads.

        Returns a ``CTDefaceEvalLib.findings.Scale``.
        """
        nodes.checkCT(originalNode)
        task = tasks.MeasureScale(model, modelFolder())
        return self.process.run(task, originalNode, lambda report, path: Scale(**report), **callbacks)

    def evaluate(
        self, originalNode, defacedNode=None, models=DEFAULT_MODELS, preset="default", attacks=(), **callbacks
    ):
        """Look for a face in a volume or in a pair of volumes from every side, and attack the defaced one.

        :param models: names of face models, keys of ``CTDefaceEvalLib.face_models.MODELS``.
        :param preset: key of ``CTDefaceEvalLib.views.PRESETS``.
        :param attacks: of ``CTDefaceEvalLib.attacks.ATTACKS``.
        :return: an ``Outcome``.
        """

        def finish(report, path):
            for node in (originalNode, defacedNode):
                if node is not None:
                    nodes.checkPresent(node)
            with open(path, "rb") as file:  # which our own process has just written
                result = pickle.load(file)
            surface = result["recovered"]
            isSomething = surface is not None and len(surface["points"]) > 0
            return Outcome(result["evaluation"], report["recovered"], surface if isSomething else None)

        nodes.checkCT(originalNode)
        defaced = None
        if defacedNode is not None:
            nodes.checkCT(defacedNode)
            defaced = self.process.volumeMessage("defaced", defacedNode)
        task = tasks.Evaluate(list(models), modelFolder(), preset, list(attacks), defaced)
        return self.process.run(task, originalNode, finish, **callbacks)

    def detectability(self, volumeNode, models=DEFAULT_MODELS, preset="default"):
        """From how many sides a face is found in a volume. Returns a ``CTDefaceEvalLib.findings.Evaluation``.

        Parameters as in :meth:`evaluate`.
        """
        return self.evaluate(volumeNode, None, models, preset).evaluation

    def compare(self, originalNode, defacedNode, models=DEFAULT_MODELS, preset="default", attacks=ATTACKS):
        """Whether the face can still be found, recognised or recovered from a defaced volume.

        Parameters as in :meth:`evaluate`. Returns a ``CTDefaceEvalLib.findings.Evaluation``; its ``verdict`` has the
        answer in words.
        """
        return self.evaluate(originalNode, defacedNode, models, preset, attacks).evaluation

    def evaluateCohort(
        self, table, model=DlibHog.name, preset="study", cache=None, preservation=False, linkage=False, **callbacks
    ):
        """Evaluate many scans by the study's protocol. Returns a ``CTDefaceEvalLib.findings.Cohort``.

        :param table: path of a CSV table, see ``CTDefaceEvalLib.cohort_table``, or a table node with the columns
            patient, scan, original, defaced and method, which name files, folders with a DICOM series, or volume nodes.
        :param model: name of a face model that tells people apart.
        :param preset: key of ``CTDefaceEvalLib.views.PRESETS``.
        :param cache: folder that keeps what was seen of each volume; without one it is kept as long as this process.
        :param preservation: whether it is measured, too, what each defacing costs.
        :param linkage: whether it is tried, too, to link the scans by what no defacing takes away.
        :raises InputError: if the table is not usable.
        """

        def finish(report, path):
            with open(path, "rb") as file:  # which our own process has just written
                return pickle.load(file)

        if hasattr(table, "GetTable"):
            folder = self.process.makeFolder()
            rows = check_table([self._withFiles(pair, folder) for pair in pairsIn(table)])
        else:
            rows = read_table(table)
        members = [
            {
                **vars(row),
                "path": str(row.path.absolute()),
                "labels": str(row.labels.absolute()) if row.labels else "",
            }
            for row in rows
        ]
        folder = str(cache or "cohort")
        task = tasks.EvaluateCohort(members, folder, model, modelFolder(), preset, preservation, linkage)
        return self.process.run(task, finish=finish, **callbacks)

    @staticmethod
    def _withFiles(pair, folder):
        """A line of a cohort's table with files in place of the volume nodes that it names."""
        for role in ("original", "defaced"):
            node = volumeOf(pair[role])
            if node is not None:
                path = os.path.join(folder, f"{node.GetID()}-{nodes.fingerprint(node)}.nrrd")
                if not os.path.exists(path):
                    sitk.WriteImage(nodes.imageFromVolume(node), path)
                pair = {**pair, role: path}
        return pair

    def makeResults(self, evaluation, volumeNode):
        """Put the numbers of an evaluation into tables of the scene, and its curves into plots.

        :return: the tables by surface and by picture, and the charts by yaw and of similarity (or None).
        """
        name = volumeNode.GetName()
        return (
            *results.evaluationTables(evaluation, name, volumeNode),
            *results.evaluationCharts(evaluation, name, volumeNode),
        )

    def writeReport(self, evaluation, path, pictures=True, overwrite=False):
        """Write the report of an evaluation or of a cohort: a web page, and every number as CSV and JSON beside it.

        :param pictures: put pictures of the head into it, which show the face.
        :raises OutputError: if the files exist and ``overwrite`` is not set, or cannot be written.
        """
        check_report(path, overwrite)
        write = write_cohort if isinstance(evaluation, Cohort) else write_evaluation
        write(evaluation, path, pictures=pictures, overwrite=overwrite)
