"""Pictures are looked at in other processes as they are here, and here when there are no others."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
from CTDefaceEvalLib import face_models, searching
from CTDefaceEvalLib.face_models import Face
from CTDefaceEvalLib.searching import MANY_PICTURES, Picture, search_here
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.render import Renderer, skin_surface
from stored_phantoms import stored_phantom


@pytest.fixture(scope="module")
def front():
    """A picture with a face."""
    image = stored_phantom(PhantomParameters(person=0, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image
    return Renderer().picture(skin_surface(image, grid_mm=2.0))


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.setattr(searching, "processors", lambda: 2)
    monkeypatch.setattr(searching, "ENDS", True)


def test_few_pictures_are_looked_at_here(two_processors):
    with searching.searching(MANY_PICTURES - 1) as search:
        assert search is search_here
    with searching.searching(MANY_PICTURES) as search:
        assert search is not search_here


@pytest.mark.parametrize(("name", "value"), [("processors", lambda: 1), ("ENDS", False), ("interpreter", lambda: "")])
def test_where_no_processes_can_be_pictures_are_looked_at_here(two_processors, monkeypatch, name, value):
    monkeypatch.setattr(searching, name, value)
    with searching.searching(MANY_PICTURES) as search:
        assert search is search_here


def test_a_process_that_may_have_no_children_looks_at_pictures_itself(two_processors, monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with searching.searching(MANY_PICTURES) as search:
        assert search is search_here


@pytest.mark.slow
@pytest.mark.skipif(not searching.ENDS, reason="needs Python 3.12")
def test_answers_are_the_same_wherever_pictures_are_looked_at(front, two_processors):
    pytest.importorskip("dlib")
    model = face_models.load_model("dlib-hog")
    place = Face((60.0, 60.0, 240.0, 240.0), 0.0)
    nothing = np.full_like(front, 128)
    pictures = [Picture(front), Picture(front, True), Picture(nothing, True), Picture(nothing, True, place)]
    here = [search_here(model, picture)() for picture in pictures]
    assert [face is not None for face, _ in here] == [True, True, False, False]
    assert [vector is not None for _, vector in here] == [False, True, False, True]
    with searching.searching(MANY_PICTURES) as search:
        answers = [search(model, picture) for picture in pictures]
        for (face, vector), answer in zip(here, answers):
            other_face, other_vector = answer()
            assert other_face == face and np.array_equal(other_vector, vector)
        # They die with the picture: it is looked at here, and so is the next one.
        processes = list(search.__self__._pool._processes)
        assert processes and os.getpid() not in processes
        for pid in processes:
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        for _ in range(2):
            face, vector = search(model, pictures[1])()
            assert face == here[1][0] and np.array_equal(vector, here[1][1])


def test_a_system_without_further_processes(front, two_processors, monkeypatch):
    tried = []

    def none(number, variables):
        tried.append(number)
        raise OSError("No semaphores.")

    monkeypatch.setattr(searching, "started_pool", none)

    class Model:
        name = "dlib-hog"

        def detect(self, picture):
            return [Face((0.0, 0.0, 1.0, 1.0), 1.0)]

    with searching.searching(MANY_PICTURES) as search:
        for _ in range(2):
            assert search(Model(), Picture(front))()[0].score == 1.0
    assert tried == [2]
    monkeypatch.setattr(searching, "started_pool", None)
    Model.name = "facenet"  # uses all processors by itself
    with searching.searching(MANY_PICTURES) as search:
        assert search(Model(), Picture(front))()[0].score == 1.0
