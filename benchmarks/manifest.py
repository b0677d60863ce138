"""Cost of operations on a whole manifest with one or ten million images in prep's schema.

    python benchmarks/manifest.py [--rows 1000000] [--rounds 3] [--folder DIR] [--only NAME ...] [--captions]

Counting tags and replacing one tag everywhere are compared with a bare pyarrow pass over the same file; then
`prep merge --suggest` and `prep check`. Every measurement is a new process, for its peak memory; rounds are
interleaved, and the median is printed with minimum and maximum.

The bare edit rewrites the whole file. prep's 'edit' is different work: it appends one entry to a journal. With
--captions, 'captions' measures all that a user waits for, from `prep edit` to the new captions in merge.parquet,
where prep composes every caption again.

The manifest: row groups of prep's size, 5 to 25 of 10,000 tags per image with Zipf frequencies, scores, a sentence,
a caption, two taggers, two subjects and a regularization set; one image in fifty is a near-duplicate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TAGS = 10_000
WORDS = ("hair", "eyes", "shirt", "skirt", "hat", "ribbon", "ears", "tail", "glasses", "coat")
TEXT = "annotations.list.element.text"
KEPT = 50  # row groups that are repeated in a larger manifest
EDITED = "hair_7"  # the tag that is replaced: about 1 % of all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="Images.  [default: 1000000]")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each operation.  [default: 3]")
    parser.add_argument("--folder", type=Path, help="Folder to keep the manifest in; written once.")
    parser.add_argument("--only", nargs="+", choices=list(WORK), help="Measure only these.")
    parser.add_argument("--captions", action="store_true", help="Also measure an edit up to the captions.")
    parser.add_argument("--measure", choices=list(WORK), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure, options.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="prep-manifest-") as folder:
        home = options.folder or Path(folder)
        make(home, options.rows)
        size = (home / "manifests" / "tag.parquet").stat().st_size / 1e6
        print(f"{options.rows:,} images, {size:,.0f} MB of Parquet")
        names = options.only or [name for name in WORK if name != "captions" or options.captions]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for round_number in range(options.rounds):
            for name in names:
                found[name].append(measure_in_process(name, home))
                spent = "{seconds:.1f} s, CPU {cpu:.1f} s, {peak:,.0f} MB".format(**found[name][-1])
                print(f"  round {round_number + 1} of {options.rounds}: {name}, {spent}", file=sys.stderr)
        report(found, options.rows)


def report(found: dict[str, list[dict[str, float]]], rows: int) -> None:
    """Print one line per operation; CPU seconds are more reliable than wall-clock time on a busy machine."""
    print(f"{'':<12}{'seconds':>10}{'(min to max)':>20}{'CPU':>12}{'peak':>10}")
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu")}
        for name, runs in found.items()
    }
    for name, runs in found.items():
        every = sorted(run["seconds"] for run in runs)
        peak = max(run["peak"] for run in runs)
        spread = f"({every[0]:.2f} to {every[-1]:.2f})"
        own = medians[name]
        if bare := medians.get(BASELINE.get(name, "")):
            comparison = (
                f"{own['seconds'] / bare['seconds']:.1f} times the bare pass, CPU {own['cpu'] / bare['cpu']:.1f}"
            )
        else:
            comparison = f"{own['seconds'] / rows * 1e6:.1f} s per million"
        print(f"{name:<12}{own['seconds']:10.2f}{spread:>20}{own['cpu']:10.2f} s{peak:7,.0f} MB   {comparison}")


def measure_in_process(name: str, home: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", name, "--folder", str(home)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measured(name: str, home: Path) -> dict[str, float]:
    """Wall-clock and CPU seconds of an operation without imports, and the process's peak memory in MB."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    clock, cpu = time.perf_counter(), time.process_time()
    WORK[name](home)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return {"seconds": clock, "cpu": cpu, "peak": peak()}


def peak() -> float:
    """Peak memory of this process in MB (Linux); getrusage would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def make(home: Path, rows: int) -> None:
    """A workspace with a manifest of `rows` records as after tagging, made column by column."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.manifest import FORMAT, ROWS, schema

    target = home / "manifests" / "tag.parquet"
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    (home / "prep.toml").write_text('[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"\n')
    head = {
        "format": FORMAT,
        "digest": "0" * 64,
        "counts": {"found": rows, "kept": rows, "images": rows, "dropped": {}},
        "history": [{"stage": "scan", "version": 1, "params": {}, "input": "", "models": [], "libraries": {}}],
    }
    random = np.random.default_rng(0)
    names = pa.array([f"{first}_{second}" for first in WORDS for second in range(TAGS // len(WORDS))])
    shares = 1 / np.arange(5, TAGS + 5)
    edges = np.cumsum(shares / shares.sum())
    made: list = []
    with pq.ParquetWriter(target, schema(), compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, rows, ROWS):
            count = min(ROWS, rows - start)
            if len(made) < KEPT:
                made.append(pa.table(row_group(start, count, random, (names, edges)), schema=schema()))
                writer.write_table(made[-1])
            else:  # the same images with other ids and hashes
                writer.write_table(renewed(made[start // ROWS % KEPT].slice(0, count), start, random))
        writer.add_key_value_metadata({b"prep": json.dumps(head).encode()})


def renewed(table, start: int, random):
    """The same rows, as other images."""
    import pyarrow as pa

    count = table.num_rows
    image = table.column("image").combine_chunks()
    parts = {field.name: image.field(n) for n, field in enumerate(image.type)}
    parts["phash"] = pa.array([f"{h:016x}" for h in random.integers(1, 2**63, count).tolist()])
    columns = {
        "id": pa.array([f"{n * 977 + 1:016x}" for n in range(start, start + count)]),
        "image": pa.StructArray.from_arrays(list(parts.values()), fields=list(image.type)),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    return table


def row_group(start: int, count: int, random, tags) -> list:
    """The columns of `count` records with consecutive ids."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.manifest import schema

    names, edges = tags
    number = np.arange(start, start + count)
    ids = pa.array([f"{n * 977 + 1:016x}" for n in number.tolist()])
    shas = pa.array([f"{n * 977 + 1:016x}{n:048x}" for n in number.tolist()])
    phash = random.integers(1, 2**63, count)
    twins = np.flatnonzero(random.random(count) < 0.02)[1:]
    phash[twins] = phash[twins - 1] ^ 1
    kind = number % 10  # eight of ten show one of two subjects, two are regularization
    pick = lambda values: pa.array(np.array(values)[np.minimum(kind // 4, 2)])  # noqa: E731
    lengths = random.integers(5, 26, count) + 1  # the last is a sentence
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    total, last = int(offsets[-1]), offsets[1:] - 1
    codes = np.searchsorted(edges, random.random(total)).astype(np.int32)
    texts = names.take(pa.array(np.minimum(codes, len(names) - 1))).to_numpy(zero_copy_only=False)
    texts[last] = [f"a photo of a man who holds the {n % 977}th thing of {n}" for n in number.tolist()]
    is_last = np.zeros(total, bool)
    is_last[last] = True
    annotations = pa.StructArray.from_arrays(
        [
            pa.array(texts, pa.string()),
            pa.array(np.where(is_last, "caption", "tag")),
            pa.array(np.where(is_last, "", "general")),
            pa.array(random.random(total).round(4), mask=is_last),
            pa.array(np.where(is_last, "blip:blip-large", "wd14:wd-vit-tagger-v3")),
        ],
        fields=list(schema().field("annotations").type.value_type),
    )
    image = {"path": shas, "width": 512, "height": 512, "pixel_sha256": shas, "file_sha256": shas}
    image["phash"] = pa.array([f"{h:016x}" for h in phash.tolist()])
    heads = pa.ListArray.from_arrays(pa.array(offsets), annotations.field(0))
    filled = {
        "caption": pc.binary_join(pc.list_slice(heads, 0, 12), ", "),
        "id": ids,
        "source": pa.array([f"raw/{n}.jpg" for n in number.tolist()]),
        "sha256": shas,
        "subject": pick(["smith", "anna", ""]),
        "class_name": pick(["man", "woman", "man"]),
        "role": pick(["train", "train", "reg"]),
        "image": nested(schema().field("image").type, image, count),
        "annotations": pa.ListArray.from_arrays(pa.array(offsets), annotations),
    }
    for name in ("crop", "transform", "drop"):
        filled[name] = pa.nulls(count, schema().field(name).type)
    return [filled[field.name] if field.name in filled else pa.array([""] * count) for field in schema()]


def nested(kind, values: dict, count: int):
    """A column of structs; an integer is repeated in every row."""
    import pyarrow as pa

    arrays = [pa.array([v] * count) if isinstance(v := values[field.name], int) else v for field in kind]
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def bare_count(home: Path) -> None:
    """Tag frequencies only, from the dictionary-encoded text column, by row group."""
    import numpy as np
    import pyarrow.parquet as pq

    counts = Counter[str]()
    with pq.ParquetFile(home / "manifests" / "tag.parquet", read_dictionary=[TEXT]) as file:
        for number in range(file.num_row_groups):
            for batch in file.read_row_group(number, columns=[TEXT]).to_batches():
                text = batch.column(0).flatten().field(0)
                found = np.bincount(text.indices.to_numpy(zero_copy_only=False), minlength=len(text.dictionary))
                counts.update(dict(zip(text.dictionary.to_pylist(), found.tolist(), strict=True)))


def prep_count(home: Path) -> None:
    """prep's tag counts: by subject, above thresholds, once per image, near-duplicates as one."""
    from pipeline.manifest import Manifest
    from stages.merging.tag_counts import count_tags
    from stages.merging.thresholds import Thresholds

    count_tags(Manifest.read(home / "manifests" / "tag.parquet"), Thresholds(0, 0, {}, False), str, 6)


def bare_edit(home: Path) -> None:
    """Replace one tag in each row group's dictionary, and write all columns again."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    target = home / "bare.parquet"
    with pq.ParquetFile(home / "manifests" / "tag.parquet", read_dictionary=[TEXT]) as file:
        writer = None
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            at = table.schema.get_field_index("annotations")
            lists = table.column(at).combine_chunks()
            text, *others = (lists.values.field(n) for n in range(lists.values.type.num_fields))
            words = pc.replace_with_mask(text.dictionary, pc.equal(text.dictionary, EDITED), pa.scalar("cap"))
            new = pa.StructArray.from_arrays(
                [pa.DictionaryArray.from_arrays(text.indices, words), *others], fields=list(lists.values.type)
            )
            table = table.set_column(at, table.field(at), pa.ListArray.from_arrays(lists.offsets, new))
            writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
            writer.write_table(table)
        writer.close()
    target.unlink()


def prep_edit(home: Path) -> None:
    """The same edit in prep: find the images with the tag, and append one entry to the journal.

    The manifest stays unchanged; the next merge applies the edit to the captions.
    """
    import numpy as np
    import pyarrow.compute as pc

    from pipeline.edits import Edit
    from pipeline.journal import JOURNAL, Journal
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace

    workspace = Workspace(home)
    workspace.path(JOURNAL).unlink(missing_ok=True)
    ids: list[str] = []
    for table in Manifest.read(home / "manifests" / "tag.parquet").tables(["id", TEXT], [TEXT]):
        lists = table.column("annotations").combine_chunks()
        text = lists.values.field(0)
        at = pc.index(text.dictionary, EDITED).as_py()
        holders = np.searchsorted(lists.offsets.to_numpy(), np.flatnonzero(text.indices.to_numpy() == at), "right") - 1
        ids += table.column("id").take(np.unique(holders)).to_pylist()
    Journal.read(workspace).append(workspace, ids, [Edit("replace", EDITED, "cap")])
    assert len(ids) > 1000


def captions(home: Path) -> None:
    """The same as a user does it: prep edit with a filter, then prep merge over the whole dataset."""
    from pipeline.commands.edit import EditSelection, changes, owners, select_rows
    from pipeline.edits import Edit
    from pipeline.engines import local
    from pipeline.execution import RunSettings
    from pipeline.journal import JOURNAL
    from pipeline.manifest import Manifest
    from pipeline.registry import StagePlan
    from pipeline.review.state import Review
    from pipeline.run import update_stage
    from pipeline.workspace import Workspace
    from stages.merge import Merge

    workspace = Workspace(home)
    for path in (workspace.path(JOURNAL), workspace.manifest("merge")):
        path.unlink(missing_ok=True)
    review = Review.open(workspace)
    edit = Edit("replace", EDITED.replace("_", " "), "cap")
    rows = select_rows(review.table, EditSelection(filter=EDITED))
    ids = owners(review, rows)
    assert sum(1 for _ in changes(review, rows, review.edits, review.edits.supposing(ids, [edit]))) > 100
    review.edits.append(workspace, ids, [edit])
    del review
    source = Manifest.read(workspace.manifest("tag"))
    update_stage(StagePlan("merge", (Merge(),)), source, workspace, RunSettings(local.run, 2, quiet=True))
    workspace.manifest("merge").unlink()


def check(home: Path) -> None:
    """All rules of prep check except those that open images."""
    from pipeline.checks.check import check as work
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace

    list(work(Manifest.read(home / "manifests" / "tag.parquet"), Workspace(home)))


def suggest(home: Path) -> None:
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace
    from stages.merge import Merge
    from stages.merging.suggest import SuggestOptions
    from stages.merging.suggest import suggest_plan as work

    work(SuggestOptions(), Merge(), Manifest.read(home / "manifests" / "tag.parquet"), Workspace(home))


BASELINE = {"count": "bare count", "edit": "bare edit", "captions": "bare edit"}
WORK = {
    "bare count": bare_count,
    "count": prep_count,
    "bare edit": bare_edit,
    "edit": prep_edit,
    "captions": captions,
    "suggest": suggest,
    "check": check,
}

if __name__ == "__main__":
    main()
