"""What the CTDeface module does, for its panel and for scripts."""

import json
import os
import secrets
import shutil
import zlib
from pathlib import Path

import numpy as np
import slicer
from CTDefaceLib import segmenters, tasks
from CTDefaceLib.batch import GALLERY
from CTDefaceLib.batch.job import WORK_FOLDER
from CTDefaceLib.dicom.pseudonyms import TABLE
from CTDefaceLib.errors import InputError
from CTDefaceLib.files import check_folder, check_output, written_folder, written_whole
from CTDefaceLib.private import SECRET, make_private_folder, private_folder
from CTDefaceLib.volume_io import NIFTI, check_volume_name, suffix
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from . import database, sequences, study
from .parameters import CTDefaceParameterNode, takeOldChoices
from .shared import nodes, views
from .shared.process import BackgroundProcess

AS_SEGMENTED = "as segmented"
PROVENANCE = "CTDeface."
"""Attributes that tell how a node was made, and the roles of the nodes that it was made from, start with this."""
MADE_FROM = PROVENANCE + "madeFrom"
"""Attribute that every preview and result has, and no other volume: what it was made from, see ``_key``."""


FACE_FROM = PROVENANCE + "faceFrom"
"""Role of the reference from the result of a further series to that of the CT that its face was found in."""

TIMES = PROVENANCE + "times"
"""Attribute of the result of a sequence: how many time points it has."""


def reportOf(path):
    """The file beside an exported volume that tells how it was made."""
    return path[: len(path) - len(suffix(path))] + ".json"


def _withMask(report, mask):
    """The report of a defacing, with what there is to say of how its mask was made."""
    of = {name: mask[name] for name in ("method", "model", "mask") if name in mask}
    return {**report, **of, "warnings": mask.get("warnings", []) + report["warnings"]}


class CTDefaceLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, with nodes as arguments and without any window.

    The long methods wait for their result and return it. With ``done`` given they return at once, and later call
    ``done(result)`` or ``failed(error)``, and ``progress(fraction, text)`` meanwhile.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.process = BackgroundProcess()
        self.batchProcess = BackgroundProcess()  # of its own, so that the panel can be used while a batch runs
        self._batchOutput = None
        self._secret = secrets.token_hex(32)  # all series of a patient get one face, whenever they are defaced

    def getParameterNode(self):
        node = super().getParameterNode()
        takeOldChoices(node)
        return CTDefaceParameterNode(node)

    def loadSample(self, parameters=None, **callbacks):
        """Make the phantom, a synthetic head CT. Returns its volume node.

        :param parameters: dict with any of the members of ``CTDefaceLib.phantom.PhantomParameters``.
        """

        def finish(report, path):
            geometry = report["spacing"], report["origin"], report["direction"]
            return nodes.addVolume(
                np.load(path), *geometry, name=slicer.mrmlScene.GetUniqueNameByString(_("Phantom head CT"))
            )

        return self.process.run(tasks.MakePhantom(parameters or {}), finish=finish, **callbacks)

    def segmentFace(self, volumeNode, segmenter="builtin", maskNode=None, choice=None, **callbacks):
        """Find the face. Returns a segmentation node with one segment, Face.

        :param segmenter: one of ``CTDefaceLib.segmenters.names()``.
        :param maskNode: segmentation node to write into; a new one is made when it is None, or when somebody
            has changed its face meanwhile.
        :param choice: dict with any of weights (a folder), label and device, see ``CTDefaceLib.segmenters.Choice``.
        """
        nodes.checkCT(volumeNode)
        choice = dict(choice or {})
        segmenters.check_ready(segmenter, segmenters.Choice(**choice))
        before = nodes.faceFingerprint(maskNode) if maskNode is not None else None

        def finish(report, path):
            nodes.checkPresent(volumeNode)
            node = maskNode
            isGone = node is None or slicer.mrmlScene.GetNodeByID(node.GetID()) is None
            if isGone or nodes.faceFingerprint(node) != before:
                name = slicer.mrmlScene.GetUniqueNameByString(_("{name} face mask").format(name=volumeNode.GetName()))
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            nodes.setFaceMask(node, np.load(path), volumeNode)
            self._setReport(node, {"method": segmenter, **report})
            node.SetAttribute(PROVENANCE + "made", str(nodes.faceFingerprint(node)))
            node.SetNodeReferenceID(PROVENANCE + "original", volumeNode.GetID())
            views.showMask(node, visible=not views.isSideBySide())
            nodes.keepTogether(volumeNode, node)
            return node

        return self.process.run(tasks.Segment(segmenter, choice), volumeNode, finish, **callbacks)

    def expect(self, volumeNode, segmenter, choice=None, **callbacks):
        """About how long :meth:`segmentFace` will take. Returns a dict with seconds and devices (names and texts).

        It loads the model, which stays loaded for the segmentation.
        """
        nodes.checkCT(volumeNode)
        return self.process.run(tasks.Expect(segmenter, dict(choice or {})), volumeNode, **callbacks)

    def deface(self, volumeNode, maskNode, parameters=None, kept=None, **callbacks):
        """Replace the face in a new volume node, named after the input.

        :param parameters: dict with any field of CTDefaceLib.parameters.DefaceParameters.
        :param kept: what must stay, from :func:`.kept.keptSegments`.
        """
        done = callbacks.get("done")
        if done is None:
            return self.publish(self.preview(volumeNode, maskNode, parameters, kept))
        callbacks["done"] = lambda result: done(self.publish(result))
        return self.preview(volumeNode, maskNode, parameters, kept, **callbacks)

    def preview(self, volumeNode, maskNode, parameters=None, kept=None, **callbacks):
        """As :meth:`deface`, into a hidden volume node; :meth:`publish` makes it a result without further work."""
        task = self._defaceTask(volumeNode, maskNode, parameters, kept)
        mask = self._aboutMask(maskNode)

        def finish(report, path):
            nodes.checkPresent(volumeNode)
            array = np.load(path, mmap_mode="r")
            node = self.previewVolume(volumeNode)
            if node is None:
                name = _("{name} preview").format(name=volumeNode.GetName())
                node = nodes.addVolumeLike(volumeNode, array, name, isHelper=True)
                node.SetNodeReferenceID(PROVENANCE + "original", volumeNode.GetID())
            else:
                slicer.util.updateVolumeFromArray(node, array)
                node.CopyOrientation(volumeNode)
            self._setReport(node, _withMask(report, mask))
            node.SetAttribute(MADE_FROM, task.key)
            return node

        return self.process.run(task, volumeNode, finish, **callbacks)

    def defaceFurther(self, volumeNode, maskNode, other, parameters=None, kept=None, **callbacks):
        """Give another volume of the same head, on any grid and of another modality, the face that
        :meth:`deface` made with the same arguments. Returns a new volume node, named after it.

        :param other: a CT, MR or PET; it is registered where the head lies elsewhere in it. Of one that shows the time
            points of a sequence, all get one region, and the new volume shows them together with it; this may be
            ``volumeNode`` itself.
        :raises InputError: if it is not of this head, or shows more of the face.
        """
        if other.GetImageData() is None or study.wayTo(volumeNode, other) is study.Way.NOT_TAKEN:
            raise InputError(study.Way.NOT_TAKEN.explanation())
        face = self._defaceTask(volumeNode, maskNode, parameters, kept)
        mask = self._aboutMask(maskNode)
        source = self.findResult(volumeNode, maskNode, parameters, kept)
        sequence = sequences.sequenceOf(other)
        if sequence is None:
            images = [self.process.volumeMessage("other", other)]
        else:
            images = self._timePointMessages("other", sequence)

        def finish(report, path):
            nodes.checkPresent(other)
            arrays = np.load(path, mmap_mode="r")
            made = {MADE_FROM: f"{nodes.fingerprint(other)} with {face.key}"}
            if sequence is None:
                node = self._addResult(other, made, arrays[0])
            else:
                name = _("{name} defaced, all times") if other is volumeNode else ""
                node = self._addResult(other, {**made, TIMES: str(len(arrays))}, arrays[0], name)
            self._setReport(node, _withMask(report, mask))
            if source is not None:
                node.SetNodeReferenceID(FACE_FROM, source.GetID())
            if sequence is not None:
                sequences.addLike(other, node, arrays)
            return node

        return self.process.run(tasks.Apply(face, images, nodes.modality(other)), volumeNode, finish, **callbacks)

    def _timePointMessages(self, name, sequence):
        """The time points of a sequence for a task."""
        points = enumerate(sequences.timePoints(sequence))
        return [self.process.volumeMessage(f"{name}-{number}-", point) for number, point in points]

    def _defaceTask(self, volumeNode, maskNode, parameters, kept):
        """The task that replaces the face in a volume."""
        nodes.checkCT(volumeNode)
        mask = nodes.faceMask(maskNode, volumeNode)
        if not mask.any():
            raise InputError(_("The face mask is empty, or does not lie in the volume. Segment the face again."))
        return tasks.Deface(
            self.process.arrayMessage("mask", mask, volumeNode),
            dict(parameters or {}),
            kept.messages(self.process, volumeNode) if kept is not None else [],
            self._secret,
            study.patientKey(volumeNode),
            self._key(volumeNode, maskNode, parameters, kept),
        )

    def _aboutMask(self, maskNode):
        """What there is to say of how a mask was made, for :func:`_withMask`, before anybody changes it."""
        return {"method": "made elsewhere", **self.report(maskNode), "mask": self.maskMethod(maskNode)}

    def publish(self, resultNode):
        """Make a preview the result: a volume node like any other, beside its original. Deleting it undoes this.

        Earlier results of the same volume are called older, unless they were given another name.
        """
        if not resultNode.GetHideFromEditors():
            return resultNode
        attributes = {attribute: resultNode.GetAttribute(attribute) for attribute in resultNode.GetAttributeNames()}
        node = self._addResult(self.originalOf(resultNode), attributes)
        node.SetAndObserveImageData(resultNode.GetImageData())
        views.passRendering(resultNode, node)
        slicer.mrmlScene.RemoveNode(resultNode)
        return node

    def _addResult(self, original, attributes, array=None, name=""):
        """A volume node beside the one that it was made from, named after it."""
        name = (name or _("{name} defaced")).format(name=original.GetName())
        for older in self._madeFrom(original, TIMES in attributes):
            if older.GetHideFromEditors():
                continue
            if older.GetName() == older.GetAttribute(PROVENANCE + "name"):
                older.SetName(nodes.freeName(_("{name} (older)").format(name=name)))
        name = nodes.freeName(name)
        node = nodes.addVolumeLike(original, array, name, attributes={**attributes, PROVENANCE + "name": name})
        node.SetNodeReferenceID(PROVENANCE + "original", original.GetID())
        nodes.keepTogether(original, node)
        return node

    def furtherResults(self, resultNode):
        """The results of further series that have the face of a result."""
        found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if resultNode is not None else []
        return [node for node in found if node.GetNodeReference(FACE_FROM) is resultNode]

    def previewVolume(self, volumeNode):
        """The hidden volume with the preview of ``volumeNode``, or None."""
        return next((node for node in self._madeFrom(volumeNode) if node.GetHideFromEditors()), None)

    def findResult(self, volumeNode, maskNode, parameters, kept=None):
        """The preview or result that was made from exactly this volume, mask and choices, or None."""
        key = self._key(volumeNode, maskNode, parameters, kept)
        found = [node for node in self._madeFrom(volumeNode) if node.GetAttribute(MADE_FROM) == key]
        return min(found, key=lambda node: node.GetHideFromEditors(), default=None)

    def isResult(self, volumeNode):
        """Whether a volume was made by CTDeface: the preview or the result of a defacing."""
        return volumeNode is not None and bool(volumeNode.GetAttribute(MADE_FROM))

    def hasResults(self):
        """Whether there is a result in the scene, of any volume."""
        return any(
            self.isResult(node) and not node.GetHideFromEditors()
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        )

    def isMadeWith(self, resultNode, volumeNode, maskNode, parameters, kept=None):
        """Whether a preview or result was made from exactly this volume, mask and choices."""
        return resultNode.GetAttribute(MADE_FROM) == self._key(volumeNode, maskNode, parameters, kept)

    def originalOf(self, resultNode):
        """The volume that a preview or result was made from; None when it is gone."""
        return resultNode.GetNodeReference(PROVENANCE + "original")

    def masks(self):
        """The face masks of the scene."""
        role = PROVENANCE + "original"
        return [
            n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if n.GetNodeReference(role) is not None
        ]

    def maskMethod(self, maskNode):
        """How a face mask came about: AS_SEGMENTED, or corrected by hand, or made elsewhere."""
        made = maskNode.GetAttribute(PROVENANCE + "made") if maskNode is not None else None
        if made is None:
            return "made elsewhere"
        return AS_SEGMENTED if made == str(nodes.faceFingerprint(maskNode)) else "corrected by hand"

    def maskOf(self, volumeNode, without=None):
        """The latest face mask of a volume, or None.

        :param without: a mask that does not count, since it is about to be deleted.
        """
        masks = [node for node in self.masks() if node.GetNodeReference(PROVENANCE + "original") is volumeNode]
        return next((node for node in reversed(masks) if node is not without), None)

    def results(self, volumeNode):
        """The results that were made from a volume, the latest one last."""
        return [node for node in self._madeFrom(volumeNode) if not node.GetHideFromEditors()]

    def resultOf(self, volumeNode, without=None):
        """The latest result that was made from a volume, or None.

        :param without: a result that does not count, since it is about to be deleted.
        """
        return next((node for node in reversed(self.results(volumeNode)) if node is not without), None)

    def removeOrphans(self):
        """Remove the hidden volumes whose original is gone, and the time points of results that are."""
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if self.isResult(node) and node.GetHideFromEditors() and self.originalOf(node) is None:
                slicer.mrmlScene.RemoveNode(node)
        sequences.removeUnseen(self.isResult)
        views.removeOrphans()

    def report(self, node):
        """What is known of how a mask or a result was made, as dict; empty for other nodes."""
        text = node.GetAttribute(PROVENANCE + "report") if node is not None else None
        return json.loads(text) if text else {}

    def editMask(self, volumeNode, maskNode):
        """Open the face mask in the Segment Editor, with the volume as source volume."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
        editor.setSegmentationNode(maskNode)
        editor.setSourceVolumeNode(volumeNode)
        editor.setCurrentSegmentID(nodes.faceSegmentID(maskNode))

    def exportVolume(self, volumeNode, path, overwrite=False, **callbacks):
        """Write a defaced volume to a file, and beside it, as .json, how it was made. Appears whole or not at all.

        Of a volume that shows the time points of a sequence, all are written, into one NIfTI file.

        :raises InputError: if the volume is no result of CTDeface, or has several time points and no name of NIfTI.
        :raises OutputError: if the file exists and ``overwrite`` is not set, or it cannot be written.
        """
        self._checkResult(volumeNode)
        path = str(path)
        check_volume_name(path)
        if sequences.sequenceOf(volumeNode) is not None and suffix(path) not in NIFTI:
            raise InputError(_("Several time points can be written as .nii or .nii.gz: choose one of these endings."))
        reportPath = reportOf(path)
        for output in (path, reportPath):
            check_output(output, overwrite)

        def finish(report, file):
            with written_whole(reportPath, path, overwrite=overwrite) as (reportPart, part):
                reportPart.write_text(json.dumps(self.report(volumeNode), indent=2) + "\n", encoding="utf-8")
                shutil.copyfile(file, part)
            return path

        sequence = sequences.sequenceOf(volumeNode)
        if sequence is None:
            return self.process.run(tasks.Write(), volumeNode, finish, suffix(path), **callbacks)
        task = tasks.WriteTimes(self._timePointMessages("time", sequence), sequences.secondsBetween(sequence))
        return self.process.run(task, finish=finish, suffix=suffix(path), **callbacks)

    def exportSeries(self, volumeNode, folder=None, retain=None, private=None, **callbacks):
        """Write a defaced volume as a DICOM series, file by file as the one that its original was loaded from.

        Returns the folder, or the new series instance UID if it went into Slicer's database. What it replaced headers
        with is written into a private folder: beside ``folder``, or beside the database.

        :param volumeNode: result of :meth:`deface` of a volume that was loaded from the DICOM database.
        :param folder: new or empty folder; None for Slicer's DICOM database.
        :param retain: what stays of the headers when they are cleaned, see ``CTDefaceLib.dicom.headers.RETAIN``;
            None keeps the headers.
        :param private: the private folder, where several series share one.
        :raises CTDefaceError: if the volume or its DICOM files are not what they were, or the folder is not empty.
        """
        self._checkResult(volumeNode)
        if sequences.sequenceOf(volumeNode) is not None:
            raise InputError(
                _(
                    "“{name}” has several time points: export it as a file, or deface its DICOM files with "
                    "ctdeface deface."
                ).format(name=volumeNode.GetName())
            )
        original = self.originalOf(volumeNode)
        if original is None:
            raise InputError(_("The original of this volume is no longer in the scene: load it and deface it again."))
        files = database.filesOf(original)
        secret = table = ""
        if folder is not None:
            check_folder(folder)
        if retain is not None:
            private = private or (private_folder(folder) if folder is not None else database.privateFolder())
            make_private_folder(Path(private))
            secret, table = os.path.join(private, SECRET), os.path.join(private, TABLE)

        def finish(report, written):
            try:
                if folder is not None:
                    with written_folder(folder) as part:
                        shutil.copytree(written, part, dirs_exist_ok=True)
                    return str(folder)
                database.add(written, report["instances"])
                if slicer.mrmlScene.GetNodeByID(volumeNode.GetID()) is volumeNode:
                    database.link(volumeNode, report)
                return report["series"]
            finally:
                shutil.rmtree(written, ignore_errors=True)

        made = self.report(volumeNode)
        checked = bool(made) and not made["warnings"] and made["intracranial_voxels_touched"] == 0
        defaced = self.process.volumeMessage("defaced", volumeNode)
        task = tasks.WriteSeries(files, defaced, checked, retain, secret, table)
        return self.process.run(task, original, finish, suffix="", **callbacks)

    def runBatch(self, source, output, parameters=None, workers=1, event=None, **callbacks):
        """Deface all head CTs of a folder. Returns the number of scans by status.

        What an earlier batch with the same folders has done is not done again. See :func:`CTDefaceLib.batch.run`,
        which can do more, for where things are written.

        :param source: folder, searched with its sub-folders, or CSV table.
        :param output: folder for the results.
        :param parameters: as in :meth:`deface`, with the segmenter.
        :param workers: number of processes that work at the same time.
        :param event: called with what happens, see :mod:`CTDefaceLib.batch.progress`.
        """
        self._batchOutput = str(output)
        self.batchProcess.start(
            tasks.RunBatch(str(source), str(output), dict(parameters or {}), workers),
            event=event,
            done=lambda counts: self._endBatch(callbacks.get("done"), counts),
            failed=lambda error: self._endBatch(callbacks.get("failed"), error),
        )
        if callbacks.get("done"):
            return None
        try:
            return self.batchProcess.wait()
        finally:
            self._endBatch(None, None)

    def cancelBatch(self):
        """Stop the batch. What it finished stays, and it can go on later."""
        self.batchProcess.cancel()

    def galleryOf(self, output):
        """Path of the page with the results of a batch."""
        return str(private_folder(output) / GALLERY / "index.html")

    def _endBatch(self, call, value):
        self.batchProcess.stop()
        shutil.rmtree(os.path.join(self._batchOutput, WORK_FOLDER), ignore_errors=True)  # left when it was cancelled
        if call is not None:
            call(value)

    def evaluate(self, originalNode, defacedNode):
        """Open CTDefaceEval with both volumes chosen."""
        handover = ScriptedLoadableModuleLogic()
        handover.moduleName = "CTDefaceEval"
        parameterNode = handover.getParameterNode()
        for name, node in (("originalVolume", originalNode), ("defacedVolume", defacedNode)):
            parameterNode.SetParameter(name, "")
            parameterNode.SetNodeReferenceID(name, node.GetID())
        slicer.util.selectModule("CTDefaceEval")

    def _checkResult(self, volumeNode):
        if not self.isResult(volumeNode):
            raise InputError(_("This volume is no result of CTDeface, and may show the face: deface it first."))

    def _key(self, volumeNode, maskNode, parameters, kept):
        """What a preview or result is told by: all that it was made from."""
        made = dict(parameters or {})
        if kept is not None:
            made["kept"] = kept.fingerprint()
        if made.get("fill") == "face":
            made["person"] = zlib.crc32(self._secret.encode())  # that was drawn, which nobody can do again
        choices = zlib.crc32(json.dumps(made, sort_keys=True).encode())
        return f"{nodes.fingerprint(volumeNode)} {nodes.faceFingerprint(maskNode)} {choices}"

    @staticmethod
    def _madeFrom(volumeNode, ofAllTimes=False):
        """The previews and results of a volume, in the order in which they came into the scene.

        :param ofAllTimes: rather those of all time points of its sequence.
        """
        if volumeNode is None:
            return []
        made = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetAttribute(MADE_FROM)]
        made = [node for node in made if bool(node.GetAttribute(TIMES)) is ofAllTimes]
        return [node for node in made if node.GetNodeReference(PROVENANCE + "original") is volumeNode]

    @staticmethod
    def _setReport(node, report):
        node.SetAttribute(PROVENANCE + "report", json.dumps(report))
        for name in ("version", "method"):
            if name in report:
                node.SetAttribute(PROVENANCE + name, str(report[name]))
