from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from pipeline.errors import PrepError
from pipeline.exchange.archives import is_archive, unpack
from tests.shell import files

PNG = b"\x89PNG\r\n\x1a\n"


def zipped(path, *members):
    """A zip of (name or ZipInfo, data)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tarred(path, *members, mode="w"):
    """A tar of (name or TarInfo, data)."""
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


HOSTILE = {
    "leads out": ["../a.png", "/etc/a.png", "x/../../a.png", "c:\\a.png", "a\\..\\b.png", "C:a.png", "a\x1b[2J.png"],
    "some systems do not allow": ["con.txt", "deep/NUL.png", "x" * 300 + ".png"],
}


@pytest.mark.parametrize(("why", "name"), [(why, name) for why, names in HOSTILE.items() for name in names])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_hostile_names_are_refused_and_nothing_stays(tmp_path, pack, why, name):
    archive = pack(tmp_path / "a", ("good.png", PNG), (name, PNG))
    with pytest.raises(PrepError, match=why) as reported:
        unpack(archive, tmp_path / "new")
    assert "\x1b" not in str(reported.value) and len(reported.value.wrong) < 400
    assert set(files(tmp_path)) == {"a"}


def link(kind):
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    with pytest.raises(PrepError, match=r"'a\.png' in it is a link, a device or encrypted"):
        unpack(tarred(tmp_path / "a", (link(kind), b"")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with pytest.raises(PrepError, match="is a link"):
        unpack(zipped(tmp_path / "a", (info, "/etc/passwd")), tmp_path / "new")


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path):
    """300 MiB of zeroes in a zip of 300 KB: more than a hundred times its size and more than 64 MiB."""
    archive = zipped(tmp_path / "a", ("a.png", bytes(300 << 20)))
    with pytest.raises(PrepError, match="unpacks to more bytes"):
        unpack(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("second", ["A.PNG", "a.png"])
@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path, pack, second):
    with pytest.raises(PrepError, match="occurs twice"):
        unpack(pack(tmp_path / "a", ("a.png", PNG), (second, PNG + b"2")), tmp_path / "new")


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04half", b"no archive", b"\x1f\x8b\x08\x00" + bytes(600)],
    ids=["empty", "zip", "text", "gz"],
)
def test_what_is_no_archive_is_said(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(PrepError, match="cannot be unpacked: "):
        unpack(tmp_path / "a", tmp_path / "new")


def test_a_cut_archive_is_said(tmp_path):
    for pack in (zipped, tarred):
        whole = pack(tmp_path / "a", ("a.png", PNG * 1000), ("b.png", PNG * 1000)).read_bytes()
        (tmp_path / "a").write_bytes(whole[: len(whole) * 2 // 3 - 5000] if pack is tarred else whole[:-30])
        with pytest.raises(PrepError, match="cannot be unpacked"):
            unpack(tmp_path / "a", tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zipped(tmp_path / "a", ("a.png", PNG)).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(PrepError, match="encrypted"):
        unpack(tmp_path / "a", tmp_path / "new")


def test_images_and_captions_come_out_and_nothing_else(tmp_path):
    for pack in (zipped, tarred):
        archive = pack(
            tmp_path / "a",
            ("10_smith man/a.png", PNG),
            ("10_smith man/a.txt", b"smith"),
            ("10_smith man/run.sh", b"rm"),
            ("__MACOSX/10_smith man/._a.png", b"x"),
            (".hidden/a.png", PNG),
        )
        unpack(archive, tmp_path / pack.__name__)
        assert files(tmp_path / pack.__name__) == {"10_smith man/a.png": PNG, "10_smith man/a.txt": b"smith"}


def test_a_folder_of_shards_is_one_archive(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    tarred(shards / "0.tar", ("a.png", PNG))
    tarred(shards / "1.tar", ("b.png", PNG))
    assert is_archive(shards) and not is_archive(tmp_path)
    unpack(shards, tmp_path / "new")
    assert set(files(tmp_path / "new")) == {"a.png", "b.png"}
