"""The one exception that prep shows to its user."""


class PrepError(Exception):
    """A mistake the user can mend: says what is wrong, then what to do."""

    def __init__(self, wrong: str, mend: str = "") -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.hint = mend

    def __str__(self) -> str:
        return f"{self.wrong}\n{self.hint}" if self.hint else self.wrong

    @property
    def exit_code(self) -> int:
        """prep's exit code."""
        return 1

    def __reduce__(self) -> tuple[type["PrepError"], tuple[str, str]]:
        """Pickle both sentences, so that a Ray actor's error reaches the user whole."""
        return (PrepError, (self.wrong, self.hint))


class Interrupted(PrepError):
    """The user, or the system, asked prep to end; what it did is saved. The exit code is the shell's for it."""

    def __init__(self, wrong: str, mend: str, signal: int) -> None:
        super().__init__(wrong, mend)
        self.signal = signal

    @property
    def code(self) -> int:
        return 128 + self.signal


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its final period; the name of its class when it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
