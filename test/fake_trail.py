"""A session of the tests' own that has been trained for some rounds, and what a page asks of a control for it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from fake_control import FakeControl

from fedn_py.identity import Digest, SessionId
from fedn_py.reducer.control import Control
from fedn_py.reducer.shown_measurements import MetricView, ValidationView
from fedn_py.reducer.shown_objects import ModelView, PackageView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView

SEED = Digest("5e" * 32)
PACKAGE = Digest("bac4a9e0" * 8)

_asked: ContextVar[bool] = ContextVar("_asked", default=False)


def model_of(session: str, number: int) -> Digest:
    """Return the digest of the model that a round of a trained session made."""
    return Digest(f"{number:04x}{session:0>60}"[-64:])


def a_trained_session(
    control: FakeControl, rounds: int = 3, *, name: str = "digits", number: int = 1, **options: Any
) -> SessionView:
    """Give a control a session whose rounds are all committed, with models and validations by two clients."""
    session = SessionId(f"{number:032x}")
    chosen = SessionOptions(package=PACKAGE, seed_model=SEED, rounds=rounds, name=name, **options)
    if not control.package_views:
        control.package_views.append(PackageView(PACKAGE, "digits", "1", 1000, 3, {"train": "python train.py"}, 1.0))
        control.model_views.append(ModelView(SEED, 0, None, None, 1000, 1.0))
    for at in range(1, rounds + 1):
        control.model_views.append(a_model(session, at))
        control.validation_views.append(a_validation(session, at))
    head = model_of(session, rounds) if rounds else None
    view = SessionView(session, number, name, "finished", rounds, rounds, chosen, "", 1.0, head)
    control.session_views[session] = view
    return view


def a_model(session: SessionId, number: int) -> ModelView:
    """Return the model of one round."""
    return ModelView(
        digest=model_of(session, number),
        number=number,
        session=session,
        parent=model_of(session, number - 1) if number > 1 else SEED,
        size=1000,
        created_at=1.0 + number,
        metrics={"accuracy": accuracy(number)},
        samples=30,
        metrics_hidden={"recall": "2 clients gave it, and a mean is shown of at least 3"},
        clients=2,
        package=PACKAGE,
    )


def accuracy(number: int) -> float:
    """Return what was measured in a round."""
    return 1 - 0.5 ** (number + 1)


def a_validation(session: SessionId, number: int) -> ValidationView:
    """Return what a round's two clients measured: accuracy of both, recall hidden, loss of the training."""
    mean = accuracy(number)
    low, high = mean - 0.0625, mean + 0.0625
    return ValidationView(
        session=session,
        number=number,
        model=model_of(session, number),
        validated=True,
        clients=2,
        samples=30,
        seconds=2.5,
        metrics=(
            MetricView("accuracy", mean, 2, "", low, low, mean, high, high, {"anna": low, "bert": high}),
            MetricView("recall", None, 2, "2 clients gave it, and a mean is shown of at least 3"),
        ),
        training=(MetricView("loss", 1 / number, 2),),
    )


_NOT_COUNTED = {"recognise", "authenticate", "changed"}


@contextmanager
def counted_calls(control: FakeControl) -> Iterator[Counter[str]]:
    """Count what is asked of a control, by method; who asks, and how often something has changed, is not counted."""
    counts: Counter[str] = Counter()
    names = [name for name in vars(Control) if not name.startswith("_") and name not in _NOT_COUNTED]
    for name in names:
        setattr(control, name, _counting(name, getattr(control, name), counts))
    try:
        yield counts
    finally:
        for name in names:
            delattr(control, name)


def _counting(name: str, method: Callable[..., Awaitable[Any]], counts: Counter[str]) -> Callable[..., Awaitable[Any]]:
    async def ask(*arguments: Any, **named: Any) -> Any:
        counts[name] += not _asked.get()  # what the control asks of itself is its own affair
        token = _asked.set(True)
        try:
            return await method(*arguments, **named)
        finally:
            _asked.reset(token)

    return ask
