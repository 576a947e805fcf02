import pytest

from fedn_py.runtime.passed_time import ago


@pytest.mark.parametrize(
    ("passed_s", "said"),
    [
        (0.4, "now"),
        (-5.0, "now"),
        (1.0, "1 second ago"),
        (59.9, "59 seconds ago"),
        (240.0, "4 minutes ago"),
        (7_300.0, "2 hours ago"),
        (86_400.0, "1 day ago"),
    ],
)
def test_an_instant_is_said_in_the_largest_unit_that_fits(passed_s: float, said: str) -> None:
    assert ago(1_000_000.0 - passed_s, now=1_000_000.0) == said


def test_what_never_was_is_said_so() -> None:
    assert ago(None) == "never"
