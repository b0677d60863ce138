"""What the hub's refusals and a broken network mean, as one sentence and the step that helps."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.models.store import home_of, install_hint

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

OFFLINE = "--offline or HF_HUB_OFFLINE keeps prep from the network"
_KEPT = "What came so far is kept. "


def hub_error(hub: str, wrong: str, first: str = "") -> PrepError:
    """The error that says what is wrong, and how the model is got nevertheless."""
    return PrepError(wrong, first + install_hint(hub))


@contextmanager
def translate_errors(hub: str, place: str) -> Iterator[None]:
    """Turn whatever the client raises, that talks to the server `place`, into a PrepError."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(hub, place, error) from None
    except OfflineModeIsEnabled:
        raise hub_error(hub, f"{hub} is not on this machine, and {OFFLINE}.") from None
    except TransportError as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise hub_error(hub, f"The connection to {place} failed: {why}.", _KEPT) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise hub_error(hub, f"The disk that holds {home_of(hub).parent} is full.", _KEPT) from None
        if error.errno is not None:
            raise
        raise hub_error(hub, f"The download of {hub} broke off before its end.", _KEPT) from None


def _refused(hub: str, place: str, error: HfHubHTTPError) -> PrepError:
    from huggingface_hub import errors

    page = f"{place}/{hub}"
    sentences: tuple[tuple[type, PrepError], ...] = (  # the first class that fits counts, so the finer ones come first
        (
            errors.GatedRepoError,
            hub_error(
                hub,
                f"{hub} is gated: its authors want their conditions accepted first.",
                f"Accept them at {page}, log in with a token (hf auth login, or HF_TOKEN), then pull again. ",
            ),
        ),
        (errors.RepositoryNotFoundError, _nobody(hub, place)),
        (
            errors.RevisionNotFoundError,
            PrepError(f"{hub} has no such revision.", f"Look for its commits at {page}/commits/main"),
        ),
        (
            errors.RemoteEntryNotFoundError,
            PrepError(f"A file of {hub} is no longer there: {error.response.url}", f"Look at {page}/tree/main"),
        ),
    )
    for kind, sentence in sentences:
        if isinstance(error, kind):
            return sentence
    status = error.response.status_code
    if status == 401 and "credentials" in error.response.headers.get("X-Error-Message", ""):
        return PrepError(f"{place} does not accept the token that is stored or in HF_TOKEN.", "Log in: hf auth login")
    if status == 401:  # what the hub tells strangers about models that are private or do not exist
        return _nobody(hub, place)
    later = "Log in with a token: hf auth login. " if status == 403 else f"{_KEPT}Try again later. "
    return hub_error(hub, f"{place} answers {status} for {hub}.", later)


def _nobody(hub: str, place: str) -> PrepError:
    return PrepError(
        f"There is no model {hub} at {place}, or it is private.",
        f"Look for its name at {place}/{hub}; if it is private, log in with a token: hf auth login",
    )
