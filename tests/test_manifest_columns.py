from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline import manifest as manifests
from pipeline.checks.caption_pages import read_pages
from pipeline.checks.dataset_arrays import load_arrays
from pipeline.manifest import write_manifest
from pipeline.report.caption_lengths import CaptionLengths
from pipeline.report.manifest_columns import ImageRefs, ManifestColumns, records
from tests.report_set import make_set


def test_rows_are_read_from_the_row_groups_that_hold_them(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "ROWS", 3)
    _, manifest = make_set(tmp_path, 12)
    stored = list(manifest.records())
    for rows in ([], [0], [7, 2, 3], list(range(len(stored)))):
        assert [(ref.row, ref.id, ref.source) for ref in ImageRefs(manifest)(rows)] == [
            (row, stored[row].id, stored[row].source) for row in rows
        ]
        assert records(manifest, rows) == {row: stored[row] for row in rows}


def test_a_copy_is_named_with_its_number(tmp_path):
    _, manifest = make_set(tmp_path, 12)
    names = {ref.id: ref.name for ref in ImageRefs(manifest)(range(len(list(manifest.records()))))}
    for record in manifest.records():
        file_name = record.source.rpartition("/")[2]
        assert names[record.id] == (f"{file_name} (copy 1)" if record.transform else file_name)


def test_originals_and_the_megapixels_of_sources(tmp_path):
    _, manifest = make_set(tmp_path, 12)
    stored = [record for record in manifest.records() if record.kept]
    stored[0] = replace(stored[0], crop=None)
    manifest = write_manifest(manifest.path, [stored], manifest.history)
    arrays = load_arrays(map(CaptionLengths().add_page, read_pages(manifest)), {})
    columns = ManifestColumns.read(manifest, arrays)
    assert columns.originals.tolist() == [record.transform is None for record in stored]
    crops = {}
    for record in stored:
        crops.setdefault(record.id.partition("-")[0], record.crop)
    sizes = [crop.source_width * crop.source_height / 1e6 if crop else np.nan for crop in crops.values()]
    np.testing.assert_array_equal(np.sort(columns.megapixels), np.sort(np.array(sizes, np.float32)))
