"""Token shards: one flat file of ids a split, memory-mapped, and a manifest with every checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.download import sha256_of
from data.errors import LabError

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path("data/shards")
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
BYTE_COUNTS = "byte_counts.bin"
SPLITS = ("train", "val", "test")
FORMAT = 1


@dataclass(frozen=True)
class Split:
    """What the manifest says of a split."""

    documents: int
    bytes: int  # UTF-8 bytes of the documents
    tokens: int  # separators included


@dataclass(frozen=True)
class Manifest:
    """What `prepare` made, and of what."""

    source: dict[str, Any]
    corpus_sha256: str  # of the documents' hashes, sorted: independent of their order
    vocab_size: int
    separator: int
    dtype: str  # of the ids: uint16 or uint32, little-endian
    splits: dict[str, Split]
    files: dict[str, str]  # file name -> sha256
    format: int = FORMAT

    @property
    def corpus(self) -> str:
        """A short name for metrics.json: bits per byte compare only where it is equal."""
        version = self.source.get("python")
        kind = f"{self.source['kind']}-{version}" if version else self.source["kind"]
        return f"{kind}-{self.corpus_sha256[:12]}"

    def save(self, folder: Path) -> None:
        """Writes manifest.json."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Raises LabError when the shards were never prepared, or by another version."""
        path = folder / MANIFEST
        try:
            fields = json.loads(path.read_text())
            fields["splits"] = {name: Split(**split) for name, split in fields["splits"].items()}
            manifest = cls(**fields)
        except OSError as error:
            raise LabError(f"{path}: {error.strerror}; run `dvc repro prepare`") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(f"{path}: not a manifest; run `dvc repro -f prepare`") from error
        if manifest.format != FORMAT:
            raise LabError(f"{path}: has format {manifest.format}, not {FORMAT}; run `dvc repro -f prepare`")
        return manifest

    def verify(self, folder: Path) -> None:
        """Raises LabError naming each file that is not what `prepare` wrote."""
        wrong = [
            name
            for name, sha256 in self.files.items()
            if not (folder / name).is_file() or sha256_of(folder / name) != sha256
        ]
        wrong += [f"{split}.bin" for split in SPLITS if f"{split}.bin" not in self.files]
        if wrong:
            raise LabError(
                f"shards differ from {folder / MANIFEST}: {', '.join(wrong)}; "
                "restore them with `dvc checkout`, or `dvc repro -f prepare`"
            )


def read_split(folder: Path, manifest: Manifest, split: str) -> np.ndarray:
    """The token ids of a split, memory-mapped, (tokens,)."""
    import numpy as np

    return np.memmap(folder / f"{split}.bin", dtype=np.dtype(manifest.dtype).newbyteorder("<"), mode="r")


def read_token_bytes(folder: Path) -> np.ndarray:
    """Bytes per token id, int32 (vocab_size,); 0 marks what is not text."""
    import numpy as np

    return np.fromfile(folder / BYTE_COUNTS, dtype="<i4")


def split_of(text: str, val_fraction: float, test_fraction: float) -> str:
    """The split that a document belongs to: a function of its text alone."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < val_fraction:
        return "val"
    return "test" if share < val_fraction + test_fraction else "train"
