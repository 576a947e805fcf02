"""The short form of chaos: a few trials that are cheap and tell much. ``make chaos`` runs all of them."""

from collections.abc import Iterator

import pytest
from chaos.run import TRIALS, Course, told

SHORT = (
    "plain, answer to the commit lost",
    "masked, member killed with its answer unsent",
    "masked, reducer killed before a commit",
)
BY_NAME = {trial.name: trial for trial in TRIALS}


@pytest.fixture(scope="module")
def course(servers_of_its_own: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """One network for all of them."""
    made = Course(tmp_path_factory.mktemp("chaos"), clients=6)
    yield made
    made.end()


@pytest.mark.services
@pytest.mark.system
@pytest.mark.parametrize("name", SHORT)
def test_a_session_goes_on_with_right_models_whatever_is_done_to_its_network(course: Course, name: str) -> None:
    outcome = course.run(BY_NAME[name])
    assert not outcome.faults, told(BY_NAME[name], outcome)


def test_there_are_many_trials_each_with_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(TRIALS) >= 50
