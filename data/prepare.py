"""Stage `prepare`: corpus to tokenizer to token shards. `python -m data.prepare`, from the root."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data.console import Progress, say
from data.download import sha256_of
from data.errors import LabError
from data.settings import DataSettings, data_settings, load
from data.shards import BYTE_COUNTS, FOLDER, SPLITS, TOKENIZER, Manifest, Split, split_of
from data.sources import Source, open_source
from data.tokenizer import Tokenizer

DOWNLOADS = Path("data/downloads")
BATCH = 256  # documents encoded together


def train_text(source: Source, settings: DataSettings) -> Iterator[str]:
    """The training split's documents, up to `tokenizer_bytes` of them."""
    left = settings.tokenizer_bytes
    for text in source.documents():
        if left > 0 and split_of(text, settings.val_fraction, settings.test_fraction) == "train":
            left -= len(text.encode("utf-8", "surrogatepass"))
            yield text


def write_shards(source: Source, settings: DataSettings, tokenizer: Tokenizer, folder: Path) -> Manifest:
    """Encodes every document into the file of its split, in the order of the source."""
    import numpy as np

    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    counts = {split: [0, 0, 0] for split in SPLITS}  # documents, bytes, tokens
    hashes: list[bytes] = []
    files = {split: (folder / f"{split}.bin").open("wb") for split in SPLITS}
    documents = source.documents()
    try:
        while batch := list(islice(documents, BATCH)):
            for text, ids in zip(batch, tokenizer.encode(batch), strict=True):
                split = split_of(text, settings.val_fraction, settings.test_fraction)
                raw = text.encode("utf-8", "surrogatepass")
                hashes.append(hashlib.sha256(raw).digest())
                files[split].write(np.array(ids, dtype=dtype).tobytes())
                for index, count in enumerate((1, len(raw), len(ids))):
                    counts[split][index] += count
    finally:
        for file in files.values():
            file.close()
    for split, (number, _, _) in counts.items():
        if not number:
            raise LabError(
                f"the {split} split is empty: the corpus has {len(hashes)} documents; "
                "use more documents, or raise data.val_fraction and data.test_fraction"
            )
    tokenizer.save(folder / TOKENIZER)
    tokenizer.token_bytes().astype("<i4").tofile(folder / BYTE_COUNTS)
    return Manifest(
        source=source.description,
        corpus_sha256=hashlib.sha256(b"".join(sorted(hashes))).hexdigest(),
        vocab_size=tokenizer.vocab_size,
        separator=tokenizer.separator,
        dtype=dtype.name,
        splits={split: Split(*counts[split]) for split in SPLITS},
        files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    )


def prepare(settings: DataSettings, folder: Path = FOLDER, downloads: Path = DOWNLOADS) -> Manifest:
    """Makes `folder` anew. It appears whole or, when something fails, stays as it was."""
    source = open_source(settings, downloads)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".shards-", dir=folder.parent))
    try:
        with Progress("prepare", 2) as progress:
            progress.update(0, "training the tokenizer")
            tokenizer = Tokenizer.train(train_text(source, settings), settings.vocab_size)
            progress.update(1, "encoding the documents")
            manifest = write_shards(source, settings, tokenizer, scratch)
            manifest.save(scratch)
            scratch.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            scratch.rename(folder)
            progress.close(manifest.corpus)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def main() -> int:
    """The command. Returns the exit status."""
    try:
        manifest = prepare(data_settings(load()))
    except LabError as error:
        say(f"prepare: {error}")
        return error.exit_code
    except OSError as error:
        say(f"prepare: {error.filename or 'data'}: {error.strerror}")
        return 2
    except KeyboardInterrupt:
        say("prepare: interrupted; nothing was changed")
        return 130
    for name, split in manifest.splits.items():
        ratio = split.bytes / split.tokens
        say(f"{name:5} {split.documents:7,} documents {split.tokens:12,} tokens {ratio:.2f} bytes a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
