"""Unusual and bad files of every kind; `python -m tests.data.images.bad_files` prints the result for each."""

import io
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_siamim.data import error_handling, sources
from keras_siamim.data.images import decoding
from tests.data.images.photographs import photographs

PHOTO = photographs()[0, 100:130, 200:240]
RGB = Image.fromarray(PHOTO)


def encoded(image, kind, **options):
    """Bytes of a PIL image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_alpha():
    """The photograph, its left half transparent."""
    alpha = np.full((30, 40, 1), 255, "uint8")
    alpha[:, :20] = 0
    return Image.fromarray(np.concatenate([PHOTO, alpha], -1))


def giant_png():
    """A PNG of 85 million pixels in 11 kB."""
    return encoded(Image.new("1", (9_500, 9_000)), "PNG", compress_level=9)


def exif():
    """EXIF with the orientation of an image on its side."""
    found = Image.Exif()
    found[0x0112] = 6
    return found


def with_segment(jpeg, kind, content, before=b"\xff\xdb"):
    """A JPEG with one more segment before its first segment of another kind."""
    start = jpeg.index(before)
    return jpeg[:start] + b"\xff" + kind + (len(content) + 2).to_bytes(2, "big") + content + jpeg[start:]


def turned(profile=b""):
    """A JPEG on its side, with its orientation after a color profile."""
    return with_segment(encoded(RGB, "JPEG", icc_profile=profile), b"\xe1", exif().tobytes())


def odd_files():
    """Files that are converted: names and bytes."""
    photo = photographs()[0]
    gray16 = Image.fromarray((np.arange(1200).reshape(30, 40) * 50).astype(np.uint16))
    return {
        "gray.jpg": encoded(RGB.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(RGB.convert("CMYK"), "JPEG"),
        "16_bit.png": encoded(gray16, "PNG"),
        "palette.png": encoded(RGB.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "transparent.png": encoded(with_alpha(), "PNG"),
        "animated.gif": encoded(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")]),
        "animated.webp": encoded(RGB, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")]),
        "1x1.png": encoded(Image.new("RGB", (1, 1), "blue"), "PNG"),
        "20000x10.jpg": encoded(Image.fromarray(photo[:10]).resize((20_000, 10)), "JPEG"),
        "10x20000.png": encoded(Image.fromarray(photo[:, :10]).resize((10, 20_000)), "PNG"),
        "on_its_side.jpg": turned(),
        "on_its_side_far_in.jpg": turned(np.random.default_rng(0).bytes(20_000)),
        "a_png_called.jpg": encoded(RGB, "PNG"),
        "zeros_at_the_end.webp": encoded(RGB, "WEBP") + bytes(3),
    }


def bad_files():
    """Files that are refused: names and bytes."""
    jpeg, png = encoded(RGB, "JPEG"), encoded(RGB, "PNG")
    return {
        "empty.jpg": b"",
        "text.png": b"<html>Not found</html>",
        "cut_off.jpg": jpeg[: len(jpeg) // 2],
        "head_only.jpg": jpeg[:3],
        "cut_off.png": png[: len(png) // 2],
        "cut_off.gif": encoded(RGB, "GIF")[:200],
        "cut_off.webp": encoded(RGB, "WEBP")[:200],
        "corrupt_tables.jpg": jpeg[:30] + bytes(100) + jpeg[130:],
        "corrupt_data.png": png[:100] + bytes(40) + png[140:],
        "giant.png": giant_png(),
    }


def write(folder, files):
    """Write files into a folder."""
    for name, data in files.items():
        (pathlib.Path(folder) / name).write_bytes(data)


def main():
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, odd_files() | bad_files())
        source = sources.open_source(folder)
        for index in range(source.size):
            path = pathlib.Path(source.locate(index))
            data, name = path.read_bytes(), path.name
            reason = error_handling.failure(source, index)
            if reason is None:
                with Image.open(io.BytesIO(data)) as image:
                    stored = f"{image.format} {image.mode} {image.width}x{image.height}"
                height, width, _ = decoding.decode(tf.constant(data)).shape
                print(f"| {name} | {stored} | converted: RGB {width}x{height} |")
            else:
                print(f"| {name} | {len(data):,} bytes | replaced: {reason} |")


if __name__ == "__main__":
    main()
