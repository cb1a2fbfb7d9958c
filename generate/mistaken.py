"""Files that are not what their name says: what lies there in their place, told by their first bytes."""

from pathlib import Path

from generate.errors import Problem, Refusal

LOOK = 512  # bytes
POINTER = b"version https://git-lfs"
PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml")
ZIP, PICKLE, HDF5 = b"PK\x03\x04", b"\x80\x02", b"\x89HDF"


def mistake(file: Path, weights: bool = False) -> Problem | None:
    """What lies there instead, as the end of a sentence that names the file; None where nothing is known to be wrong.

    With `weights` the file should be safetensors, or PyTorch's by an ending such as .bin: one of them is not the other.
    """
    with file.open("rb") as stream:
        head = stream.read(LOOK)
    if head.startswith(POINTER):
        return Problem("is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGE):
        return Problem("is a web page, not the file itself; download the file again, by the link to the raw file.")
    if not weights:
        return None
    if head.startswith(HDF5):
        return Problem("is a file of Keras; save the model with transformers' save_pretrained for PyTorch.")
    if file.suffix == ".safetensors" and head.startswith((ZIP, PICKLE)):
        return Problem(
            "is a file of PyTorch's under another name; call it pytorch_model.bin and run `python -m convert` on it."
        )
    if file.suffix != ".safetensors" and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return Problem("is a safetensors file under another name; call it model.safetensors and copy it into models/.")
    return None


def refuse_mistaken(file: Path, weights: bool = False) -> None:
    """Raise Refusal where something else lies in the file's place."""
    if (found := mistake(file, weights)) is not None:
        raise Refusal("{file} {mistake}", file=file.name, mistake=found)
