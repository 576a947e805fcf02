"""Connection profiles: which reducer, by what token, under which authority."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedn_py.api.faults import InvalidProfile
from fedn_py.runtime.secret_files import bearer_of

SANDBOX_PROFILE = Path(".fedn") / "sandbox" / "profile.yaml"
"""Where a sandbox in the present folder leaves its profile."""

_KEYS = {"url", "token", "token_file", "authority_file"}


@dataclass(frozen=True, slots=True)
class Profile:
    """How to reach the active reducer of one network.

    Attributes:
        urls: https://host:port of each reducer.
        authority_file: PEM; None for the authorities of the system.
        file: where the profile was read, for people.
    """

    urls: tuple[str, ...]
    token: str = field(repr=False)
    authority_file: Path | None
    file: Path | None = None


def find_profile(given: Path | None, environ: Mapping[str, str], folder: Path) -> Path:
    """Return the profile to use: the one given, else FEDN_PROFILE's, else the sandbox's in ``folder``, else the user's.

    Raises:
        InvalidProfile: there is none.
    """
    if given is not None:
        return given
    if environ.get("FEDN_PROFILE"):
        return Path(environ["FEDN_PROFILE"])
    for candidate in (folder / SANDBOX_PROFILE, user_profile()):
        if candidate.is_file():
            return candidate
    raise InvalidProfile(
        f"no connection profile: neither {SANDBOX_PROFILE} here nor {user_profile()} is there",
        remedy="Start a sandbox (fedn-py sandbox), or write a profile with url, token_file and authority_file and "
        "name it with --profile or FEDN_PROFILE.",
    )


def user_profile() -> Path:
    """Return where this user's own profile is kept."""
    import platformdirs

    return Path(platformdirs.user_config_dir("fedn-py")) / "profile.yaml"


def load_profile(file: Path) -> Profile:
    """Read a profile; relative paths in it start at its folder. Raises InvalidProfile with every fault."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InvalidProfile(f"the profile {file} cannot be read: {fault.strerror}") from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise InvalidProfile(f"the profile {file} is not YAML: {fault}") from fault
    if not isinstance(content, dict):
        raise InvalidProfile(f"the profile {file} must hold keys: {', '.join(sorted(_KEYS))}")
    wrong = [f"{key} is no key of a profile" for key in content if key not in _KEYS]
    urls = content.get("url")
    urls = urls if isinstance(urls, list) else [urls]
    texts = {key: content[key] for key in content if key in _KEYS - {"url"}}
    wrong += [f"{key} must be text" for key, value in texts.items() if not isinstance(value, str)]
    if not urls or not all(isinstance(url, str) and url.startswith("https://") for url in urls):
        wrong.append("url must be https://host:port, or a list of them")
    if ("token" in content) == ("token_file" in content):
        wrong.append("give either token or token_file")
    if wrong:
        raise InvalidProfile(f"the profile {file} has faults: " + "; ".join(wrong), remedy="Correct the file.")
    return Profile(
        urls=tuple(url.rstrip("/") for url in urls),
        token=content["token"] if "token" in content else _token(file.parent / content["token_file"]),
        authority_file=file.parent / content["authority_file"] if "authority_file" in content else None,
        file=file,
    )


def _token(file: Path) -> str:
    try:
        return bearer_of(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as fault:
        raise InvalidProfile(
            f"the token file {file} cannot be read: {fault}", remedy="Correct token_file in the profile."
        ) from fault
