"""Requests of somebody who means harm: by name, what is sent to which route."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

Request = dict[str, Any]
Make = Callable[[str], Request]
"""A request, given the URL of a server that is as hostile, at an address that may be asked."""

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}

ADDRESSES = [
    *("https://127.0.0.1/", "https://localhost/a.png", "https://[::1]/", "https://0.0.0.0/"),
    *("https://10.0.0.1/", "https://172.16.0.1/", "https://192.168.1.1/", "https://100.64.0.1/"),
    *("https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/", "https://[fc00::1]/"),
    *("https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/"),
    *("https://[::]/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/"),
    *("https://127.1/", "https://224.0.0.1/", "https://240.0.0.1/", "https://255.255.255.255/"),
    *("http://127.0.0.1:22/", "https://user:secret@127.0.0.77/", "https://127.0.0.77:22/"),
    *("https:///nowhere", "https://a b/", "https://a..b/", "https://nobody.invalid/"),
    *("https://127.0.0.77/" + "a" * 2048, "https://[::1", "https://127.0.0.77:99999/"),
]
SCHEMES = ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "/etc/passwd"]
ANSWERS = ["redirect", "endless", "drip", "gzip", "page", "error", "nothing", "short"]


def image_at(url: str) -> Request:
    return {"json": {"prompt": "a cat", "input_reference": {"image_url": url}}}


def webhook_at(url: str) -> Request:
    return {"json": {"prompt": "a cat", "webhook_url": url}}


def image(data: bytes) -> Request:
    return {"files": {"input_reference": ("../../etc/passwd", data)}, "data": {"prompt": "a cat"}}


def video(data: bytes) -> Request:
    files = {"video": ("..\\..\\clip.mp4", data)}
    return {"path": "/v1/videos/edits", "files": files, "data": {"prompt": "a cat"}}


def fields(text: str) -> Request:
    return {"content": text.encode(), "headers": JSON}


def form(body: bytes, headers: dict[str, str] = FORM) -> Request:
    return {"content": body, "headers": headers}


def part(name: str, value: bytes, extra: str = "") -> bytes:
    head = f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n{extra}\r\n'
    return head.encode() + value + b"\r\n"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says so of its size, with these chunks in place of its own."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rest = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + rest + chunk(b"IEND", b"")


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, kind)
    return file.getvalue()


def clip(
    frames: int = 9,
    side: int = 64,
    format: str = "mp4",
    codec: str = "libx264",
    rate: Fraction = Fraction(8),  # noqa: B008
) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width = stream.height = side
        for _ in range(frames):
            frame = np.zeros((side, side, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return file.getvalue()


def sound() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def box(kind: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", len(data) + 8 if size is None else size) + kind + data


def lying(name: bytes, offset: int, value: bytes) -> bytes:
    """A clip whose box `name` has other bytes at `offset` behind its name."""
    data = clip()
    place = data.index(name) + 4 + offset
    return data[:place] + value + data[place + len(value) :]


MOST = b"\x7f\xff\xff\xff"
FTYP = box(b"ftyp", b"isom\x00\x00\x02\x00isomiso2avc1mp41")
BLANK = zlib.compress(bytes(64 << 20))

PICTURES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "only a head": lambda: png(8, 8),
    "pixels": lambda: png(65_535, 65_535, (b"IDAT", BLANK)),
    "largest size": lambda: png(2**31 - 1, 2**31 - 1, (b"IDAT", b"")),
    "no width": lambda: png(0, 8, (b"IDAT", zlib.compress(b""))),
    "text bomb": lambda: png(8, 8, (b"zTXt", b"a\0\0" + BLANK), (b"IDAT", b"")),
    "profile bomb": lambda: png(8, 8, (b"iCCP", b"a\0\0" + BLANK), (b"IDAT", b"")),
    "half a PNG": lambda: picture("PNG")[:80],
    "half a JPEG": lambda: picture("JPEG")[:300],
    "half a WebP": lambda: picture("WEBP")[:30],
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
    "SVG with an entity": lambda: b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg/>',
    "TIFF": lambda: picture("TIFF"),
    "BMP": lambda: picture("BMP"),
    "GIF": lambda: picture("GIF"),
    "archive": lambda: b"PK\x03\x04" + bytes(100),
    "video": clip,
}
VIDEOS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no boxes": lambda: FTYP,
    "box without end": lambda: FTYP + box(b"moov", b"", 0),
    "box of the largest size": lambda: FTYP + box(b"moov", b"\x7f" + b"\xff" * 7, 1),
    "box smaller than its head": lambda: FTYP + box(b"moov", bytes(64), 4),
    "boxes in boxes": lambda: FTYP + b"".join(box(b"moov", b"", 8 * n) for n in range(9999, 0, -1)),
    "sound alone": sound,
    "half an MP4": lambda: clip()[:700],
    "half a WebM": lambda: clip(3, format="webm", codec="libvpx-vp9")[:200],
    "playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "playlist behind a head": lambda: FTYP + b"#EXTM3U\nfile:///etc/passwd\n",
    "list of files": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "frames": lambda: clip(2001, 16),
    "many samples told": lambda: lying(b"stsz", 8, MOST),
    "many times told": lambda: lying(b"stts", 4, MOST),
    "pixels": lambda: clip(1, 4098),
    "hours": lambda: clip(rate=Fraction(1, 500)),
    "image": lambda: picture("PNG"),
}
BODIES: dict[str, Request] = {
    "no boundary": form(part("prompt", b"x"), {"content-type": "multipart/form-data"}),
    "endless boundary": form(b"x", {"content-type": "multipart/form-data; boundary=" + "b" * 9999}),
    "no last boundary": form(part("prompt", b"a cat")),
    "lines of LF": form(b'--b\ncontent-disposition: form-data; name="prompt"\n\na\n--b--\n'),
    "many fields": form(b"".join(part(f"f{n}", b"") for n in range(1000)) + b"--b--\r\n"),
    "many files": form(
        b"".join(
            part("input_reference", b"x", 'content-type: image/png\r\nx-a: "f"\r\n') * 9
            for _ in range(9)
        )
        + b"--b--\r\n"
    ),
    "giant header": form(part("prompt", b"x", f"x-a: {'a' * 100_000}\r\n") + b"--b--\r\n"),
    "many headers": form(part("prompt", b"x", "x-a: b\r\n" * 5000) + b"--b--\r\n"),
    "nested": form(
        part("seed", part("x", b"y"), "content-type: multipart/mixed; boundary=b\r\n")
        + b"--b--\r\n"
    ),
    "no name": form(b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
    "bytes that are no text": form(part("prompt", b"\xff\xfe") + b"--b--\r\n"),
    "text without end": form(part("prompt", b"x" * (29 << 20)) + b"--b--\r\n"),
    "brackets in brackets": {"data": {"prompt": "a", "video[a][b][c]": "x"}},
    "broken brackets": {"data": {"prompt": "a", "video[[a]": "x"}},
    "many brackets": {"data": {"prompt": "a", "[" * 5000: "x"}},
    "twice": {"data": {"prompt": "a", "input_reference": "x", "input_reference[a]": "y"}},
    "zero in a name": {"data": {"prompt": "a", "se\x00ed": "1"}},
    "control characters": {"json": {"prompt": "a\x1b[2Jcat\x00"}},
    "half a character": fields('{"prompt": "a \\ud800"}'),
    "text too long": {"json": {"prompt": "a" * 32_001}},
    "no number": fields('{"prompt": "a", "guidance_scale": NaN}'),
    "infinity": fields('{"prompt": "a", "guidance_scale": -Infinity}'),
    "beyond infinity": fields('{"prompt": "a", "guidance_scale": 1e999}'),
    "huge integer": fields('{"prompt": "a", "seed": 1' + "0" * 400 + "}"),
    "integer without end": fields('{"prompt": "a", "seed": ' + "9" * 5000 + "}"),
    "negative zero steps": fields('{"prompt": "a", "num_inference_steps": -0}'),
    "truth for a number": fields('{"prompt": "a", "seed": true, "fps": false}'),
    "exponent": {"json": {"prompt": "a", "seconds": "1e9"}},
    "deep": fields('{"prompt": ' + "[" * 100_000),
    "deep in text": {"data": {"prompt": "a", "input_reference": '{"a":' * 50_000}},
    "another alphabet": {"content": '{"prompt": "a"}'.encode("utf-32"), "headers": FORM},
    "list": fields("[]"),
    "own fields": fields('{"prompt": "a", "__class__": {"__init__": 1}}'),
    "server's file as model": {"json": {"prompt": "a", "model": "../../../etc/passwd"}},
    "server's file as LoRA": {"json": {"prompt": "a", "lora": "/etc/passwd", "model": "tiny"}},
    "server's file as image": {"json": {"prompt": "a", "input_reference": "/etc/passwd"}},
    "server's file as video": {
        "path": "/v1/videos/edits",
        "json": {"prompt": "a", "video": {"id": "../../../etc/passwd"}},
    },
    "data URL of text": image_at("data:text/html;base64,PGI+"),
    "data URL of no base64": image_at("data:image/png;base64,\u00e9\u00e9"),
    "data URL of a bomb": image_at(
        "data:image/png;base64," + base64.b64encode(png(9999, 9999, (b"IDAT", BLANK))).decode()
    ),
    "data URL without end": image_at("data:image/png;base64," + "A" * (28 << 20)),
    "long key": {"json": {"prompt": "a"}, "headers": {"idempotency-key": "k" * 300}},
}
PATHS = [
    *("/v1/videos/..%2f..%2fetc%2fpasswd/content", "/v1/videos/%00/content"),
    *("/v1/videos/video_x/content?variant=../../etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd"),
    *("/v1/videos?after=%27%20OR%201=1--", "/v1/videos?limit=99999999999999999999"),
    *("/v1/videos/" + "a" * 5000, "/v1/videos?order[]=asc"),
]

REQUESTS: dict[str, Make] = {}
for url in [*ADDRESSES, *SCHEMES]:
    REQUESTS[f"image at {url[:50]}"] = lambda _, url=url: image_at(url)  # type: ignore[misc]
for url in ADDRESSES[:12] + SCHEMES:
    REQUESTS[f"webhook at {url[:50]}"] = lambda _, url=url: webhook_at(url)  # type: ignore[misc]
for name in ANSWERS:
    REQUESTS[f"image, {name}"] = lambda server, name=name: image_at(f"{server}/{name}")  # type: ignore[misc]
for name, make in PICTURES.items():
    REQUESTS[f"image: {name}"] = lambda _, make=make: image(make())  # type: ignore[misc]
for name, make in VIDEOS.items():
    REQUESTS[f"video: {name}"] = lambda _, make=make: video(make())  # type: ignore[misc]
for name, request in BODIES.items():
    REQUESTS[f"body: {name}"] = lambda _, request=request: request  # type: ignore[misc]
for path in PATHS:
    REQUESTS[f"path: {path[:50]}"] = lambda _, path=path: {"method": "GET", "path": path}  # type: ignore[misc]


def as_json(request: Request) -> Request:
    """A request whose JSON may hold what httpx would choke on."""
    if "json" not in request:
        return request
    rest = {key: value for key, value in request.items() if key != "json"}
    headers = JSON | request.get("headers", {})
    return rest | {"content": json.dumps(request["json"]).encode(), "headers": headers}
