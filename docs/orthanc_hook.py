"""Orthanc defaces by itself: each study that has become stable is defaced and sent on, see pacs.md.

A script for Orthanc's Python plugin. Its configuration has a section of its own:

    "PythonScript": "/etc/orthanc/orthanc_hook.py",
    "StableAge": 60,
    "CTDeface": {
        "Command": ["/opt/ctdeface/bin/ctdeface"],
        "Private": "/var/lib/ctdeface",
        "Options": ["--headers", "ps315"],
        "To": "RESEARCH"
    }

``To`` is one of "DicomModalities". Originals stay as they are. Of the results only those are sent that say of
themselves that no face can be recognised in them, and none stays here. A study is done once: images that come later are
not sent, since defaced by themselves they would get another face.
"""

import hashlib
import json
import os
import queue
import subprocess
import tempfile
import threading

import orthanc

CHOICES = json.loads(orthanc.GetConfiguration()).get("CTDeface", {})
DONE = "1024"  # number of the metadata that says of which images of a study the results were sent
waiting = queue.Queue()


def ask(path):
    return json.loads(orthanc.RestApiGet(path))


def is_defaced(instance):
    """Whether an image says that it is a result, and that no face can be recognised in it."""
    tags = ask(f"/instances/{instance}/simplified-tags")
    return "CTDeface" in str(tags.get("DeidentificationMethod")), tags.get("RecognizableVisualFeatures") == "NO"


def deface(study):
    instances = [one["ID"] for one in ask(f"/studies/{study}/instances")]
    if any(is_defaced(instance)[0] for instance in instances):
        return  # its own result, on its way
    these = hashlib.sha256(" ".join(sorted(instances)).encode()).hexdigest()
    if DONE in [str(name) for name in ask(f"/studies/{study}/metadata")]:
        if orthanc.RestApiGet(f"/studies/{study}/metadata/{DONE}").decode() != these:
            orthanc.LogWarning(f"CTDeface: images came after study {study} had been sent; they stay here")
        return
    with tempfile.TemporaryDirectory(prefix="ctdeface-") as folder:
        source, result = os.path.join(folder, "in"), os.path.join(folder, "out")
        os.mkdir(source)
        for number, instance in enumerate(instances):
            with open(os.path.join(source, f"{number:06}.dcm"), "wb") as file:
                file.write(orthanc.RestApiGet(f"/instances/{instance}/file"))
        private = CHOICES["Private"]
        os.makedirs(private, mode=0o700, exist_ok=True)
        command = [*CHOICES["Command"], "deface", source, result, "--secret", os.path.join(private, "secret.key")]
        command += ["--private", private, *CHOICES.get("Options", [])]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in run.stderr.splitlines():
            orthanc.LogWarning(f"CTDeface: study {study}: {line}")
        if run.returncode in (0, 3):
            send(study, result, these)


def send(study, folder, these):
    paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    sent = []
    try:
        for path in paths:
            with open(path, "rb") as file:
                sent.append(json.loads(orthanc.RestApiPost("/instances", file.read()))["ID"])
        good = [instance for instance in sent if is_defaced(instance)[1]]
        if len(good) < len(sent):
            orthanc.LogWarning(
                f"CTDeface: study {study}: {len(sent) - len(good)} results are not good enough to be sent"
            )
        if good:
            order = {"Resources": good, "Synchronous": True}
            orthanc.RestApiPost(f"/modalities/{CHOICES['To']}/store", json.dumps(order))
            orthanc.RestApiPut(f"/studies/{study}/metadata/{DONE}", these)
            orthanc.LogWarning(f"CTDeface: study {study}: {len(good)} images were defaced and sent")
    finally:
        for instance in sent:
            orthanc.RestApiDelete(f"/instances/{instance}")


def work():
    while (study := waiting.get()) is not None:
        try:
            deface(study)
        except Exception as error:  # the next study may do better
            orthanc.LogError(f"CTDeface: study {study}: {type(error).__name__}")


def on_change(change, level, resource):
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        threading.Thread(target=work, daemon=True).start()
    elif change == orthanc.ChangeType.STABLE_STUDY:
        waiting.put(resource)
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        waiting.put(None)


orthanc.RegisterOnChangeCallback(on_change)
