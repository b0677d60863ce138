"""The exceptions that prep shows to its user as plain sentences."""

from __future__ import annotations


class PrepError(Exception):
    """A mistake that the user can correct: says what is wrong, then what to do."""

    def __init__(self, wrong: str, hint: str = "") -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.wrong}\n{self.hint}" if self.hint else self.wrong

    @property
    def exit_code(self) -> int:
        """The exit code of the prep process."""
        return 1

    def __reduce__(self) -> tuple[type[PrepError], tuple[str, str]]:
        """Pickle both sentences, so that an error raised in a Ray actor reaches the user whole."""
        return (PrepError, (self.wrong, self.hint))


class Interrupted(PrepError):
    """The user or the system asked prep to end; its work is saved."""

    def __init__(self, wrong: str, hint: str, signal: int) -> None:
        super().__init__(wrong, hint)
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal, as shells report it."""
        return 128 + self.signal


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its final period; the name of its class when it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
