from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from jinja2 import DictLoader
from PIL import Image

from pipeline.errors import PrepError
from pipeline.html.document import environment
from pipeline.html.thumbnails import thumbnail, thumbnails
from tests.fake import cropped
from tests.make import workspace


def seen(thumb):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(thumb.jpeg_base64)))).astype(int)


@pytest.fixture
def halves(tmp_path):
    """Left half black, right half orange, 640 x 320."""
    space = workspace(tmp_path)
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[:, 320:] = (250, 120, 10)
    return space, cropped(space, "halves", pixels).image


def test_a_thumbnail_is_the_image_in_small(halves):
    space, image = halves
    thumb = thumbnail(image, space, 160)
    assert (thumb.width, thumb.height) == (160, 80)
    assert np.abs(seen(thumb)[:, 5:70]).max() < 12
    assert np.abs(seen(thumb)[:, 90:155] - [250, 120, 10]).max() < 12


def test_a_small_image_is_not_enlarged(halves):
    space, image = halves
    assert thumbnail(image, space, 1000).width == 640


def test_what_is_gone_or_damaged_is_none_and_what_lies_outside_is_refused(halves):
    space, image = halves
    path = space.path(image.path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert thumbnail(image, space, 100) is None
    path.unlink()
    assert thumbnail(image, space, 100) is None
    with pytest.raises(PrepError, match="outside"):
        thumbnail(replace(image, path="../../etc/passwd"), space, 100)


def test_several_at_once_by_their_path(halves):
    space, image = halves
    gone = replace(image, path="images/gone.png")
    calls = []
    made = thumbnails([image, gone, image], space, 100, lambda done, total: calls.append((done, total)))
    assert made[image.path] == thumbnail(image, space, 100) and made[gone.path] is None
    assert calls == [(1, 2), (2, 2)]


def framed(small, image, alt):
    template = "{% from 'thumbnail.html.jinja' import framed %}{{ framed(small, image, alt) }}"
    return environment(DictLoader({})).from_string(template).render(small=small, image=image, alt=alt)


def test_the_frame_says_why_there_is_no_image(halves):
    space, image = halves
    assert framed(None, image, "x") == '<div class="gone">image missing</div>'
    assert framed(None, None, "x") == '<div class="gone">not cropped</div>'
    markup = framed(thumbnail(image, space, 100), image, '"><script>')
    assert 'alt="&#34;&gt;&lt;script&gt;"' in markup and 'width="100" height="50"' in markup
