"""Files that a person drops on the page, and the archive of an old run that is dropped most."""

import base64
import shutil
from pathlib import Path

from conftest import make_model

from convert.to_tensorflow import to_checkpoint
from generate import check_folder

DROP = """([name, body]) => {
  const bytes = Uint8Array.from(atob(body), letter => letter.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.querySelector('.drop').dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


def drop(page, name: str, body: bytes) -> None:
    """Let a file fall where files are to be dropped."""
    page.evaluate(DROP, [name, base64.b64encode(body).decode()])


def archive_without_vocabulary(folder: Path) -> Path:
    """A run of TensorFlow's with its hparams.json, as nshepperd's and gpt-2-simple's programs left them, in a .tar.gz."""
    make_model(folder / "tiny", vocab_size=50_257, n_embd=8, n_head=2)
    to_checkpoint(check_folder(folder / "tiny"), folder / "run1")
    for name in ("encoder.json", "vocab.bpe"):
        (folder / "run1" / name).unlink()
    return Path(shutil.make_archive(folder / "checkpoint_run1", "gztar", folder, "run1"))
