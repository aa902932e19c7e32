"""A worker of the CTDeface panel that needs no time: the front third of a volume is its face, which becomes air."""

import numpy as np
import SimpleITK as sitk
import slicer
from CTDefaceLib import tasks
from CTDefaceSlicer.shared import nodes

REPORT = {
    "replaced_ml": 1.0,
    "replaced_share": 0.1,
    "facial_skin_covered": 1.0,
    "mask_ml": 1.0,
    "mask_intracranial_ml": 0.0,
    "intracranial_voxels_touched": 0,
    "skull_gaps": 0,
    "warnings": [],
}


def use(panel, monkeypatch, folder, report=None):
    """Let the panel's jobs be done at once, in its own process.

    :param folder: for the files that results come in.
    :param report: what is reported beside :data:`REPORT`.
    """

    def run(task, volumeNode=None, finish=None, suffix=".npy", done=None, failed=None, **callbacks):
        array = slicer.util.arrayFromVolume(volumeNode).copy()
        if isinstance(task, tasks.Apply):
            array = np.stack(task.others)
        front = np.s_[..., : array.shape[-2] // 3, :]
        path = folder / f"result{suffix}"
        if isinstance(task, tasks.Segment):
            array = np.zeros(array.shape, np.uint8)
            array[front] = 1
            np.save(path, array)
        elif isinstance(task, (tasks.Deface, tasks.Apply)):
            array[front] = -1000
            np.save(path, array)
        elif isinstance(task, tasks.Write):
            sitk.WriteImage(nodes.imageFromVolume(volumeNode), str(path))
        made = {**REPORT, **(report or {})}
        result = finish(made, str(path)) if finish else {"seconds": 1.0, "devices": []}
        return result if done is None else done(result)

    monkeypatch.setattr(panel.logic.process, "run", run)
    monkeypatch.setattr(panel.logic.process, "voxelsMessage", lambda name, array, geometry: array)
