"""The Hub's client: names that can be, and its errors as ours. The token stays with `huggingface_hub`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from vcrd import __version__
from vcrd.errors import ConfigError, first_line

REPO_TYPE = "dataset"
_LOGIN = "set HF_TOKEN, or log in with: hf auth login"


def open_client(repo: str) -> HfApi:
    """Return a client, once it is sure that the repository's name is one.

    Raises:
        ConfigError: It is not of the form org/name.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"{repo!r} cannot be a repository: {error}") from error
    if repo.count("/") != 1:
        raise ConfigError(f"expected a repository as org/name, got {repo!r}")
    return HfApi(library_name="vcrd", library_version=__version__)


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn what the Hub refuses, and a Hub that cannot be reached, into a line that says what to do."""
    try:
        yield
    except RepositoryNotFoundError as error:
        raise ConfigError(f"no data set {repo} on the Hub, or no right to see it; {_LOGIN}") from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"{repo} has no such revision; give a branch, a tag or a commit of it") from error
    except LocalEntryNotFoundError as error:
        # A download whose first request failed ends in this one, whatever the Hub said.
        said = first_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        raise ConfigError(f"the Hub did not give a file ({said}); run the same command again to go on") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = f"; {_LOGIN}" if status in (401, 403) else "; run the same command again to go on"
        raise ConfigError(f"the Hub refused ({first_line(error)}){remedy}") from error
    except Exception as error:
        # The library's HTTP client differs between its versions; its errors are no subclass of OSError.
        if not type(error).__module__.startswith(("httpx", "httpcore")) and not isinstance(error, ConnectionError):
            raise
        said = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"the Hub cannot be reached ({said}); run the same command again to go on") from error
