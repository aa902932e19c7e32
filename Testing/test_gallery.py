"""The gallery of a batch in Chromium: opened, sorted, filtered and decided upon."""

import csv
import os
import time
from pathlib import Path

import batch_cases
import chromium
import pytest
from CTDefaceLib import batch
from gallery_cases import make_gallery, row

PICTURES = os.environ.get("CTDEFACE_PICTURES")  # a folder that keeps the screenshots for a look
VISIBLE = "[...document.querySelectorAll('.row')].map(row => row.dataset.scan)"

pytestmark = [
    pytest.mark.skipif(chromium.executable() is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(os.name == "nt", reason="drives Chromium through POSIX pipes"),
]


@pytest.fixture
def page(tmp_path):
    with chromium.Page(tmp_path) as page:
        yield page
        assert page.problems() == []


@pytest.fixture
def shot(page, tmp_path):
    return lambda name: page.screenshot(Path(PICTURES or tmp_path) / f"gallery-{name}.png")


@pytest.fixture
def twelve(tmp_path, page):
    """A small gallery, open."""
    rows = [row(number) for number in range(12)]
    rows[3].update(status="done with warnings", sentence="Only 70% of the facial skin is covered <b>look</b>.")
    rows[5].update(status="refused", sentence="The file is truncated.", report=None, seconds=0.1)
    page.open(make_gallery(tmp_path / "gallery", rows, pictures=[n for n in range(12) if n != 5]))


def decisions_of(folder):
    path = folder / "decisions.csv"
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.05)
    with open(path, newline="", encoding="utf-8") as file:
        return {line["scan"]: line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_a_real_batch_looks_right(tmp_path, page, shot):
    source, output = tmp_path / "in", tmp_path / "out"
    batch_cases.make_archive(source, good=3, bad=["no face in view", "cut .nii"], copies=1)
    batch.run(source, output)
    page.open(tmp_path / "out-private" / "gallery" / "index.html")
    assert page.js("SCANS.length") == 6
    assert "faces" in page.js("document.getElementById('warning').textContent")
    page.js(
        "Promise.all([...document.images].map(image => image.decode ? image.decode().catch(() => 0) : 0)).then(() => 1)"
    )
    loaded = page.js("[...document.querySelectorAll('.row img')].map(image => image.naturalWidth)")
    assert loaded and set(loaded) == {360}
    assert page.js("document.querySelectorAll('.row:first-child img').length") == 5
    text = page.js("document.body.innerText")
    assert "Patient" not in text and "Müller" not in text
    shot("real")
    page.press("Enter")
    page.js("document.getElementById('afterImage').decode().then(() => 1)")
    shot("real-closer")


@pytest.mark.slow
def test_without_originals_no_face_is_kept(tmp_path, page, shot):
    batch_cases.write(tmp_path / "in" / "a.nii.gz", batch_cases.head())
    pictures = tmp_path / "out-private" / "gallery" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "1-before-front.jpg").write_bytes(b"of an earlier run")
    batch.run(tmp_path / "in", tmp_path / "out", originals=False)
    assert {path.name for path in pictures.iterdir()} == {
        "1-after-front.jpg", "1-after-oblique.jpg", "1-after-slice.jpg",
    }  # fmt: skip
    page.open(tmp_path / "out-private" / "gallery" / "index.html")
    assert page.js("document.querySelectorAll('.row img').length") == 3
    assert "no faces" in page.js("document.getElementById('warning').textContent")
    page.press("Enter")
    page.js("document.getElementById('largeSlice').decode().then(() => 1)")
    shot("no-originals")


def test_sorting(twelve, page, shot):
    assert page.js(VISIBLE)[:3] == ["scan0000", "scan0001", "scan0002"]
    page.click("#sort-seconds")
    assert page.js(VISIBLE)[:2] == ["scan0005", "scan0000"]
    page.click("#sort-seconds")
    assert page.js(VISIBLE)[0] == "scan0011"
    assert page.js("document.getElementById('sort-seconds').getAttribute('aria-sort')") == "descending"
    page.click("#sort-removed")
    values = page.js("shown.map(scan => scan.removed)")
    assert values[:-1] == sorted(values[:-1]) and values[-1] is None  # what has no number comes last
    shot("sorted")


def test_filters(twelve, page):
    choose = "(box => {{ box.value = {!r}; box.dispatchEvent(new Event('input')); }})(document.getElementById({!r}))"
    page.js(choose.format("refused", "status"))
    assert page.js(VISIBLE) == ["scan0005"]
    page.js(choose.format("", "status"))
    page.press("/")
    page.call("Input.insertText", text="facial SKIN")
    page.settle()
    assert page.js(VISIBLE) == ["scan0003"]
    assert "<b>look</b>" in page.js("document.querySelector('.text').innerText")  # shown, not obeyed
    page.press("Escape")
    page.press("s")
    page.js(choose.format("", "find"))
    page.js(choose.format("open", "decision"))
    assert page.js("shown.length") == 11
    page.js(choose.format("send back", "decision"))
    assert page.js(VISIBLE) == ["scan0003"]
    page.js(choose.format("nobody", "find"))
    assert page.js("!document.getElementById('nothing').hidden")


@pytest.mark.slow
def test_decisions_by_keyboard_are_saved_and_remembered(twelve, page, shot, tmp_path):
    page.press("a", "s", "ArrowDown", "a", "u", "ArrowUp", "u")
    page.press("Enter")
    page.click("#note")
    page.call("Input.insertText", text='ear, "left"')
    page.press("Escape")
    page.press("s")
    page.click("#export")
    saved = decisions_of(tmp_path)
    assert {scan: line["decision"] for scan, line in saved.items()} == {
        "scan0000": "accept",
        "scan0001": "send back",
        "scan0003": "send back",
    }
    assert saved["scan0003"]["note"] == 'ear, "left"'
    shot("decided")
    page.call("Page.reload")
    page.js("new Promise(done => setTimeout(done, 300))")
    assert "3 decided, 2 to send back" in page.js("document.getElementById('counts').textContent")


def test_before_and_after(twelve, page, shot):
    page.press("Enter")
    assert page.js("document.getElementById('closer').open")
    assert "before-front" in page.js("document.getElementById('beforeImage').src")
    clip = "document.getElementById('beforeImage').style.clipPath"
    assert page.js(clip) == "inset(0px 50% 0px 0px)"
    page.press("ArrowLeft", "ArrowLeft")
    assert page.js(clip) == "inset(0px 70% 0px 0px)"
    page.click("#slider", at=(0.9, 0.5))
    assert page.js("document.getElementById('split').value") == "90"
    page.press("o")
    assert "before-oblique" in page.js("document.getElementById('beforeImage').src")
    shot("closer")
    page.press("a")
    assert page.js("document.getElementById('closerName').textContent") == "scan0001 (2 of 12)"
    for _ in range(4):
        page.press("ArrowDown")
    assert page.js("document.getElementById('pictures').hidden")  # of a refused scan
    page.press("Escape")
    assert not page.js("document.getElementById('closer').open")


@pytest.mark.slow
def test_five_thousand_scans(tmp_path, page, shot):
    rows = [row(number, status="done" if number % 50 else "failed") for number in range(5000)]
    page.open(make_gallery(tmp_path / "gallery", rows, pictures=range(0, 5000, 500)))
    assert page.js("SCANS.length") == 5000
    assert page.js("document.querySelectorAll('.row').length") < 30  # only those in view, and their pictures
    page.press("End")
    assert page.js(VISIBLE)[-1] == "scan4999"
    assert page.js("document.querySelectorAll('.row').length") < 30
    page.click("#sort-sentence")
    page.press("s")
    page.js("document.getElementById('scroller').scrollTop = 0")
    page.settle()
    assert page.js("shown[0].status") == "done"
    shot("5000")
