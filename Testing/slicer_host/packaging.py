"""slicer.packaging of Slicer 5.11 and newer; it installs nothing, a test puts its own in place."""


def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
               requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
    raise AssertionError(f"a test would install {requirements}")
