"""How many examples the tests with drawn input try."""

from hypothesis import settings

THOROUGH_TIMES = 10


def examples(number: int, **more) -> settings:
    """So many examples, ten times as many with ``--hypothesis-profile=thorough``."""
    thorough = settings.get_current_profile_name() == "thorough"
    return settings(max_examples=number * (THOROUGH_TIMES if thorough else 1), **more)
