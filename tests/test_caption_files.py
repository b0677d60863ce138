from __future__ import annotations

from pipeline.exchange import caption_files


def test_images_of_all_folders_with_what_lies_beside_them(tmp_path):
    for name in ("a.png", "deep/a.JPG", "deep/er/b.webp", ".hidden/c.png", "__MACOSX/a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deep" / "a.txt").write_text("hat, tree")
    (tmp_path / "deep" / "again").symlink_to(tmp_path)
    assert caption_files.detect(tmp_path)
    assert [(item.dataset_path, item.caption) for item in caption_files.read(tmp_path, "smith man")] == [
        ("train_x/10_smith man/a.png", None),
        ("train_x/10_smith man/deep--a.JPG", "hat, tree"),
        ("train_x/10_smith man/deep--er--b.webp", None),
    ]
