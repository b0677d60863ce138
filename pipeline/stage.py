"""What a stage is: a frozen dataclass whose fields are its options, and a function that does the work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipeline.errors import PrepError
from pipeline.record import Record

if TYPE_CHECKING:
    from pipeline.history import HistoryStep, Model
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace

Work = Callable[[list[Record]], list[Record]]  # from a batch of kept records to their successors
ProgressFn = Callable[[int, int], None]  # called with what is done and the total
Device = Literal["auto", "cpu", "cuda"]  # auto: a GPU if there is one


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    cache_key: bool = True,
    metavar: str | None = None,
    choices: str = "",
) -> Any:
    """A dataclass field that is also a command-line option, a recipe key and recorded in manifests' history.

    `low` and `high` bound numbers, both inclusive. `cache_key=False` marks an option that cannot change
    the result (a device, a folder whose content is hashed), so changing it makes nothing stale.
    A list as default becomes a tuple option that may be given several times. `choices` names the table whose keys are
    the option's values, as `module:TABLE`; it is imported when values are parsed, so that a table above the options
    can extend them.
    """
    meta = {"help": help, "low": low, "high": high, "key": cache_key, "metavar": metavar, "choices": choices}
    return field(default=tuple(default) if isinstance(default, list) else default, metadata=meta)


def group(kind: type[Options]) -> Any:
    """A dataclass field that holds a group of options; their names stay flat in the CLI, recipes and provenance."""
    return field(default_factory=kind, metadata={"group": kind})


class Options:
    """A frozen dataclass whose fields are options, made by `option`, or groups of them, made by `group`.

    Bounds are checked when it is made.
    """

    name: ClassVar[str]
    section: ClassVar[str] = "Options"  # heading of its section in the help

    def __post_init__(self) -> None:
        for option in self.own_options():
            value = getattr(self, option.name)
            low = -math.inf if option.metadata["low"] is None else option.metadata["low"]
            high = math.inf if option.metadata["high"] is None else option.metadata["high"]
            if type(value) in (int, float) and not low <= value <= high:
                bounds = f"from {low:g} to {high:g}".replace("from -inf to", "at most").replace(" to inf", " up")
                raise PrepError(f"{self.name}: {option.name} is {value:g}.", f"It must be {bounds}.")
        self.check()

    def check(self) -> None:
        """Raise PrepError when options contradict each other; stages override it."""

    @classmethod
    def own_options(cls) -> list[dataclasses.Field[Any]]:
        """The options that are fields of the class itself, those of its groups left out."""
        return [f for f in dataclasses.fields(cls) if "help" in f.metadata]  # type: ignore[arg-type]

    @classmethod
    def option_groups(cls) -> dict[str, type[Options]]:
        """The groups of options by field."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        return {f.name: f.metadata["group"] for f in fields if "group" in f.metadata}

    @classmethod
    def options(cls) -> list[dataclasses.Field[Any]]:
        """All options, those of groups included."""
        return [*cls.own_options(), *(option for part in cls.option_groups().values() for option in part.options())]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The options with these values by name, those of groups included; the others have their defaults."""
        cls._refuse_unknown(values)
        parts = {
            name: part.from_values({o.name: values[o.name] for o in part.options() if o.name in values})
            for name, part in cls.option_groups().items()
        }
        return cls(**parts, **{o.name: values[o.name] for o in cls.own_options() if o.name in values})

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same options but for these values by name, those of groups included."""
        self._refuse_unknown(values)
        parts = {
            name: getattr(self, name).with_values({o.name: values[o.name] for o in part.options() if o.name in values})
            for name, part in self.option_groups().items()
        }
        own = {o.name: values[o.name] for o in self.own_options() if o.name in values}
        return dataclasses.replace(self, **parts, **own)  # type: ignore[type-var]

    @classmethod
    def _refuse_unknown(cls, values: Mapping[str, Any]) -> None:
        if unknown := values.keys() - {option.name for option in cls.options()}:
            raise TypeError(f"{cls.__name__} has no option {min(unknown)!r}")

    def values(self) -> dict[str, Any]:
        """The value of every option by name, those of groups included."""
        own = {option.name: getattr(self, option.name) for option in self.own_options()}
        for name in self.option_groups():
            own |= getattr(self, name).values()
        return own

    def params(self) -> dict[str, Any]:
        """The options that can change the result, by name, as values for JSON."""
        keyed, values = {option.name for option in self.options() if option.metadata["key"]}, self.values()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k in keyed}


@dataclass(frozen=True, kw_only=True)
class Stage(Options):
    """A stage that works on each image by itself, so that any engine can run it.

    `start` imports heavy libraries and loads weights, once per worker, and returns the work: a
    function from a batch of kept records to their successors. A record that cannot be processed
    is returned with `drop` set; only an error that concerns all records (no disk space) raises.
    """

    version: ClassVar[int] = 1  # raise it when the same options give a different result
    records_per_batch: ClassVar[int] = 16
    threads: ClassVar[bool] = True  # several threads may call the work; False: a single worker, as for a model
    reads: ClassVar[str] = ""  # the stage whose manifest it reads; empty: the nearest earlier one
    writes_images: ClassVar[bool] = False  # it writes files to images/
    names_content: ClassVar[tuple[str, ...]] = ()  # options that name models and files, whose content is in the key
    names_input: ClassVar[tuple[str, ...]] = ()  # options that name what it reads instead of an earlier manifest
    notes_once: ClassVar[bool] = False  # print notes, which are expensive, only for a new manifest
    libraries: ClassVar[tuple[str, ...]] = ()  # distributions whose version, kept in the history, may change the result

    @property
    def label(self) -> str:
        """The stage's name in the history of a manifest; differs for several instances of one tagger."""
        return self.name

    def start(self, workspace: Workspace) -> Work:
        raise NotImplementedError

    def runs_on(self) -> Device:
        """Where the work runs; an engine with several workers reserves a GPU for each that needs one."""
        return "cpu"

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        """The models that the work will use; their hashes are part of the cache key."""
        return ()

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        """Digests of what the work reads besides its manifest, by name; part of the cache key."""
        return {}

    def own_source(self, workspace: Workspace, report: ProgressFn) -> tuple[list[Record], HistoryStep] | None:
        """Records to work on instead of an earlier stage's, and the step that made them; usually None."""
        return None

    def check_input(self, manifest: Manifest) -> None:
        """Raise PrepError when an option needs something that the input manifest does not have."""

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """What to print about the manifest that the stage wrote, besides the counts; one line each."""
        return ()

    @property
    def needs_sources(self) -> bool:
        """Whether the work reads the user's own files."""
        return False

    @property
    def idle(self) -> bool:
        """Whether the options leave all records as they are, so that nothing is missed when the stage is not run."""
        return False

    @property
    def forced(self) -> bool:
        """Whether the options ask the stage to run although its manifest is current."""
        return False

    def missing_outputs(self, manifest: Manifest, workspace: Workspace) -> str:
        """Which files the stage wrote that no longer exist, in a few words; empty if none is missing."""
        if not self.writes_images or not (gone := manifest.missing_images(workspace)):
            return ""
        return f"{gone:,} images in images/"


@dataclass(frozen=True, kw_only=True)
class DatasetStage(Stage):
    """A stage that needs the whole manifest at once and therefore runs in the main process."""

    def run(self, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Iterator[list[Record]]:
        """Yield the successors of all records of the manifest, dropped ones included, sorted by id."""
        raise NotImplementedError
