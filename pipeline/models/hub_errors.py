"""Refusals of the hub and network failures, as one sentence and a hint."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import PrepError, first_line
from pipeline.models.store import install_hint, models_folder

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

OFFLINE = "--offline or HF_HUB_OFFLINE forbids downloads"
_KEPT = "Complete files are kept. "


def hub_error(repo_id: str, problem: str, first_hint: str = "") -> PrepError:
    """An error whose hint ends with how to get the model nevertheless."""
    return PrepError(problem, first_hint + install_hint(repo_id))


@contextmanager
def translate_errors(repo_id: str, server: str) -> Iterator[None]:
    """Turn whatever huggingface_hub raises while it talks to `server` into a PrepError."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    try:
        try:
            yield
        except LocalEntryNotFoundError as error:  # says only "not in the cache"; the reason is what caused it
            raise error.__cause__ or error from None
    except OfflineModeIsEnabled:
        raise hub_error(repo_id, f"{repo_id} is not on this machine, and {OFFLINE}.") from None
    except HfHubHTTPError as error:
        if not hasattr(error, "response") or error.response is None:
            raise hub_error(repo_id, f"{server} gave no usable answer for {repo_id}.", _KEPT) from None
        raise _http_error(repo_id, server, error) from None
    except TransportError as error:
        reason = first_line(error)
        raise hub_error(repo_id, f"The connection to {server} failed: {reason}.", _KEPT) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise hub_error(repo_id, f"The disk that holds {models_folder()} is full.", _KEPT) from None
        if error.errno is not None:
            raise
        raise hub_error(repo_id, f"The download of {repo_id} was cut short.", _KEPT) from None


def _http_error(repo_id: str, server: str, error: HfHubHTTPError) -> PrepError:
    from huggingface_hub import errors

    page = f"{server}/{repo_id}"
    if isinstance(error, errors.GatedRepoError):
        return hub_error(
            repo_id,
            f"{repo_id} is gated: its authors ask you to accept their conditions first.",
            f"Accept them at {page}, log in with a token (hf auth login, or HF_TOKEN), then pull again. ",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return _no_such_model(repo_id, server)
    if isinstance(error, errors.RevisionNotFoundError):
        return PrepError(f"{repo_id} has no such revision.", f"Its commits are listed at {page}/commits/main")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return PrepError(
            f"A file of {repo_id} no longer exists: {error.response.url}", f"Its files are listed at {page}/tree/main"
        )
    status = error.response.status_code
    if status == 401 and "credentials" in error.response.headers.get("X-Error-Message", ""):
        return PrepError(f"{server} does not accept the token that is stored or in HF_TOKEN.", "Log in: hf auth login")
    if status == 401:  # the hub's answer without a token for models that are private or do not exist
        return _no_such_model(repo_id, server)
    first_hint = "Log in with a token: hf auth login. " if status == 403 else f"{_KEPT}Try again later. "
    return hub_error(repo_id, f"{server} answers {status} for {repo_id}.", first_hint)


def _no_such_model(repo_id: str, server: str) -> PrepError:
    return PrepError(
        f"There is no model {repo_id} at {server}, or it is private.",
        f"Check its name at {server}/{repo_id}; if it is private, log in with a token: hf auth login",
    )
