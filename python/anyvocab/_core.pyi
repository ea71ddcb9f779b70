"""The compiled core. Private: use the classes of the package, which add text, folders and errors."""

from typing import final

import numpy as np
from numpy.typing import NDArray

__version__: str

class AnyvocabError(Exception):
    file: str | None
    field: str
    fix: str

class TokenizerFormatError(AnyvocabError, ValueError): ...
class UnsupportedTokenizer(AnyvocabError, ValueError): ...
class LimitExceeded(AnyvocabError, ValueError): ...
class InvalidValue(AnyvocabError, ValueError): ...
class StorageError(AnyvocabError, OSError): ...
class InternalError(AnyvocabError): ...

@final
class Tokenizer:
    """An immutable tokenizer; safe to share between threads."""

    @staticmethod
    def from_bytes(
        data: bytes,
        format: str,
        *,
        file: str | None = None,
        pattern: str | None = None,
        special_tokens: dict[str, int] | None = None,
        limits: dict[str, int] | None = None,
    ) -> Tokenizer: ...
    @property
    def format(self) -> str: ...
    @property
    def model_type(self) -> str: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def chat_template(self) -> str | None: ...
    def declared_roles(self) -> list[tuple[str, int, str]]: ...
    def encode(self, text: bytes, specials: str, template: bool) -> NDArray[np.uint32]: ...
    def encode_with_offsets(
        self, text: bytes, specials: str, template: bool
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]: ...
    def encode_batch(
        self, texts: list[bytes], specials: str, template: bool, threads: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]: ...
    def encode_reference(self, text: bytes, specials: str) -> NDArray[np.uint32]: ...
    def count(self, text: bytes, specials: str) -> int: ...
    def normalize(self, text: bytes) -> bytes: ...
    def pretokenize(self, text: bytes) -> list[bytes]: ...
    def decode(self, ids: NDArray[np.uint32], skip_special: bool) -> bytes: ...
    def is_canonical(self, ids: NDArray[np.uint32]) -> bool: ...
    def incremental(self, specials: str) -> IncrementalEncoder: ...
    def to_json(self) -> bytes: ...
    def components(self) -> str:
        """The pipeline as JSON text: normalizer, pre_tokenizer, model (without its tables), post_processor, decoder."""

@final
class Vocabulary:
    """Every id's bytes and kind; ids are 0..len."""

    def __len__(self) -> int: ...
    def token_bytes(self, id: int) -> bytes | None: ...
    def spelling(self, id: int) -> bytes | None: ...
    def kind(self, id: int) -> str: ...
    def kinds(self) -> NDArray[np.uint8]: ...
    @staticmethod
    def kind_names() -> list[str]: ...
    def table(self) -> tuple[bytes, NDArray[np.int64]]:
        """All token bytes in one buffer and offsets int64[n + 1]; holes are empty."""
    def ids_of(self, token: bytes) -> NDArray[np.uint32]: ...
    def ids_with_prefix(self, prefix: bytes) -> NDArray[np.uint32]: ...
    def duplicates(self) -> list[list[int]]:
        """The ids of every byte string that several share, ascending, by their first id."""
    def twins_in(
        self, source: Vocabulary, limit: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Ids whose bytes `source` has below id `limit`, and the id there: of the same kind first."""
    def added_tokens(self) -> list[tuple[int, str, bool, bool, bool, bool, bool]]:
        """(id, content, single_word, lstrip, rstrip, normalized, special)."""
    def unreachable(self) -> NDArray[np.uint32]: ...

@final
class IncrementalEncoder:
    """Encodes a growing text; not safe to share between threads."""

    def append(self, text: bytes) -> None: ...
    def rollback(self, nbytes: int) -> None: ...
    def ids(self) -> NDArray[np.uint32]: ...
    def stable(self) -> int:
        """How many leading ids no further byte can change."""
    def __len__(self) -> int: ...

_Contexts = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]

@final
class CoverModel:
    """A vocabulary under a law: which token may follow a context, and what ids are for."""

    def __new__(
        cls,
        tokenizer: Tokenizer,
        rows: int,
        law: str,
        policies: list[tuple[int, str]],
        *,
        eps: float = 0.0,
        budget: int = 64,
    ) -> CoverModel: ...
    @property
    def reencoded(self) -> str | None:
        """What part of the tokenizer has no exact streaming form; None when all is exact."""
    def start(self, first: bool) -> CoverState: ...
    def layout(
        self,
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
        """Ids by place, where each first byte begins, forbidden rows, counted ids."""
    def released(self) -> NDArray[np.uint64]:
        """Numbers of contexts that nobody holds any more, since the last call."""

@final
class CoverState:
    """A byte prefix under a law; not safe to share between threads."""

    def push(self, data: bytes) -> None: ...
    def rollback(self, count: int) -> None: ...
    def fork(self) -> CoverState: ...
    def needed(self, mass_only: bool) -> _Contexts:
        """Contexts whose logits are wanted, parents first: numbers, parents' numbers, tokens."""
    def feed(
        self, id: int, row: NDArray[np.float32] | NDArray[np.uint16], *, half: str = "bfloat16"
    ) -> None: ...
    def wanted(
        self, id: int
    ) -> tuple[NDArray[np.uint64] | None, NDArray[np.uint32], tuple[int, int]]:
        """(mask words or None, children, places whose logits are wanted)."""
    def feed_sums(
        self,
        id: int,
        log_base: float,
        masses: NDArray[np.float64],
        counted: NDArray[np.float64],
        children: NDArray[np.float64],
        values: NDArray[np.float32],
    ) -> None: ...
    def logprobs(self) -> NDArray[np.float64]: ...
    def log_mass(self) -> float: ...
    def missing_mass(self) -> float: ...
    def covers(self, most: int) -> list[tuple[list[int], int, float, list[tuple[int, float]]]]:
        """(tokens, open bytes, log mass, [(token over the end, log mass)]), weightiest first."""
    def pick(self, u: float) -> tuple[NDArray[np.uint32], int, float] | None:
        """(tokens, open bytes of the last one, share of the mass)."""
    def text(self) -> bytes: ...
    def __len__(self) -> int: ...
    def sweep(self, text: bytes) -> Sweep: ...

@final
class Sweep:
    """All positions of a known text behind a prefix."""

    def needed(self) -> _Contexts: ...
    def feed(
        self, id: int, row: NDArray[np.float32] | NDArray[np.uint16], *, half: str = "bfloat16"
    ) -> None: ...
    def wanted(
        self, id: int
    ) -> tuple[NDArray[np.uint64] | None, NDArray[np.uint32], tuple[int, int]]:
        """(mask words or None, children, places whose logits are wanted)."""
    def feed_sums(
        self,
        id: int,
        log_base: float,
        masses: NDArray[np.float64],
        counted: NDArray[np.float64],
        children: NDArray[np.float64],
        values: NDArray[np.float32],
    ) -> None: ...
    def logprobs(self) -> NDArray[np.float64]: ...

@final
class Counter:
    """Counts pretokens in bounded memory; what memory cannot hold goes to files in `spill_folder`."""

    def __new__(
        cls,
        pattern: str,
        *,
        spill_folder: str,
        normalizer: str | None = None,
        threads: int = 2,
        memory_bytes: int = ...,
        invalid: str = "bytes",
        documents: str = "file",
        document_bytes: int | None = None,
    ) -> Counter: ...
    def add(self, texts: list[bytes], weight: int = 1) -> None: ...
    def feed(self, block: bytes, weight: int = 1) -> None: ...
    def end_document(self) -> None: ...
    def totals(self) -> tuple[int, int, int]:
        """Documents, their bytes, and pretokens as weighted."""
    def usage(self) -> tuple[int, int, int]:
        """Different pretokens in memory, bytes of memory, runs in files."""
    def finish(self) -> CountBatches: ...

@final
class CountBatches:
    """Sorted counts, a batch at a time."""

    def next_batch(
        self, most: int, most_bytes: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]] | None: ...

def merge_counts(
    parts: list[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]: ...
def pattern_names() -> list[str]: ...

_Words = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]
"""Pretokens end to end, offsets, counts."""
_Learnt = tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint8], NDArray[np.int64], str]
"""Merges [n, 3] as (left, right, product), their counts, tokens end to end, offsets, why it ended."""

@final
class TrainProgress:
    """How far a training is; may be read from another thread."""

    def __new__(cls) -> TrainProgress: ...
    @property
    def merges(self) -> int: ...

@final
class Veto:
    """Which tokens may not be learnt."""

    def __new__(
        cls,
        *,
        max_words: int | None = None,
        max_bytes: int | None = None,
        max_chars: int | None = None,
        max_digits: int | None = None,
        digits_apart: bool = False,
        one_script: bool = False,
        inside: list[bytes] = ...,
        pattern: str | None = None,
    ) -> Veto: ...
    def forbids(self, token: bytes) -> bool: ...

def train_words(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    counts: NDArray[np.uint64],
    *,
    specials: list[str],
    alphabet: bytes,
    limit_alphabet: int | None = None,
    vocab_size: int,
    min_frequency: int = 2,
    max_token_bytes: int | None = None,
    max_token_length: int | None = None,
    veto: Veto | None = None,
    seed_tokens: list[bytes] = ...,
    memory: int | None = None,
    progress: TrainProgress | None = None,
) -> _Learnt: ...
def train_sequences(
    symbols: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    counts: NDArray[np.uint64],
    token_data: NDArray[np.uint8],
    token_offsets: NDArray[np.int64],
    *,
    inherited: NDArray[np.uint32] | None = None,
    vocab_size: int | None = None,
    max_merges: int | None = None,
    min_frequency: int = 2,
    max_token_bytes: int | None = None,
    veto: Veto | None = None,
    reserved: list[bytes] = ...,
    progress: TrainProgress | None = None,
) -> _Learnt: ...
def train_parity(
    languages: list[_Words],
    sizes: list[float],
    *,
    measured: list[_Words] | None = None,
    together: _Words | None = None,
    global_merges: int = 0,
    window: int = 0,
    share: float = 2.0,
    specials: list[str],
    alphabet: bytes,
    vocab_size: int,
    min_frequency: int = 2,
    max_token_bytes: int | None = None,
    veto: Veto | None = None,
    progress: TrainProgress | None = None,
) -> tuple[_Learnt, NDArray[np.int64], NDArray[np.float64]]:
    """(learnt, the number of the language that chose each merge or -1, measured tokens of each)."""

def bpe_json(
    token_data: NDArray[np.uint8],
    token_offsets: NDArray[np.int64],
    merges: NDArray[np.uint32],
    *,
    specials: list[str],
    pattern: str,
    normalizer: str | None = None,
) -> bytes: ...
def cuts_of(tokenizer: Tokenizer) -> tuple[str, str | None]:
    """(pattern, normalizer) as training names them."""

def extend_words(
    tokenizer: Tokenizer,
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    counts: NDArray[np.uint64],
    *,
    tokens: int,
    min_frequency: int = 2,
    max_token_bytes: int | None = None,
    veto: Veto | None = None,
    progress: TrainProgress | None = None,
) -> _Learnt: ...
def extended_json(
    tokenizer: Tokenizer,
    token_data: NDArray[np.uint8],
    token_offsets: NDArray[np.int64],
    merges: NDArray[np.uint32],
) -> bytes: ...

@final
class Sequences:
    """Chunks or runs of pretokens as tokens of a first stage, and what is learnt from them."""

    def __new__(
        cls,
        token_data: NDArray[np.uint8],
        token_offsets: NDArray[np.int64],
        merges: NDArray[np.uint32],
        *,
        unit: str,
        spill_folder: str,
        threads: int = 2,
        memory_bytes: int = ...,
    ) -> Sequences: ...
    def add(
        self, data: NDArray[np.uint8], offsets: NDArray[np.int64], counts: NDArray[np.uint64]
    ) -> None: ...
    @property
    def positions(self) -> int:
        """Tokens of all sequences."""
    @property
    def is_spilt(self) -> bool: ...
    def learn(
        self,
        *,
        vocab_size: int | None = None,
        max_merges: int | None = None,
        min_frequency: int = 2,
        max_token_bytes: int | None = None,
        max_token_length: int | None = None,
        veto: Veto | None = None,
        specials: list[str] = ...,
        least: int | None = None,
        progress: TrainProgress | None = None,
    ) -> tuple[_Learnt, tuple[int, int, int, int]]:
        """(learnt, (bound of the cuts, sequences left, their tokens, rounds))."""

@final
class BoundlessEncoder:
    """Encodes with supermerges."""

    def __new__(
        cls,
        token_data: NDArray[np.uint8],
        token_offsets: NDArray[np.int64],
        merges: NDArray[np.uint32],
        supermerges: NDArray[np.uint32],
        *,
        pattern: str,
        normalizer: str | None = None,
    ) -> BoundlessEncoder: ...
    def encode_batch(self, texts: list[bytes]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]: ...

_Ids = NDArray[np.uint32]
_Offsets = NDArray[np.int64]

@final
class DynamicMerger:
    """Merges the base tokens of batches."""

    def __new__(cls, tokenizer: Tokenizer) -> DynamicMerger: ...
    def base(
        self, texts: list[bytes], specials: str, template: bool, boundary: str, threads: int
    ) -> tuple[_Ids, _Offsets, _Offsets, _Ids, _Ids | None, NDArray[np.int32]]:
        """Ids, offsets, spans (flat), groups, the groups after a transition, words."""
    def merge(
        self,
        ids: _Ids,
        offsets: _Offsets,
        groups: _Ids,
        later: _Ids | None,
        *,
        transition: int,
        max_merges: int,
        target: tuple[str, int, int],
        min_count: int,
        max_bytes: int,
    ) -> DynamicMerged: ...

@final
class DynamicMerged:
    """A merged batch, to be taken once."""

    def take(
        self,
    ) -> tuple[
        tuple[_Ids, _Offsets, _Offsets],
        tuple[bytes, _Offsets],
        tuple[_Ids, _Offsets],
        tuple[_Ids, _Ids, _Ids, _Ids, _Ids],
        str,
        int,
    ]:
        """Ids, offsets, starts; new bytes, new offsets; pieces, their offsets; merges; stop; open places."""

@final
class LzwEncoder:
    def __new__(
        cls, first_code: int, capacity: int, max_pieces: int, disabled: list[int]
    ) -> LzwEncoder: ...
    def push(self, ids: _Ids, end: bool) -> _Ids: ...
    def codebook(self) -> tuple[_Ids, _Offsets]: ...

@final
class LzwDecoder:
    def __new__(
        cls, first_code: int, capacity: int, max_pieces: int, disabled: list[int]
    ) -> LzwDecoder: ...
    def push(self, codes: _Ids) -> _Ids: ...
    def codebook(self) -> tuple[_Ids, _Offsets]: ...
    @property
    def faults(self) -> int: ...

@final
class TokenizerSampler:
    """Samples a tokenizer for every batch of texts; a distribution is (name, two parameters, low, high)."""

    def __new__(
        cls,
        source: list[bytes],
        *,
        seed: int,
        threads: int,
        queue_batches: int,
        max_bytes: int,
        stride: int,
        ends: str,
        vocab_size: tuple[str, float, float, float, float],
        noise: tuple[str, float, float, float, float],
        whitespace: str,
        patterns: list[str],
        near_probability: float,
        greedy_probability: float,
    ) -> TokenizerSampler: ...
    def step(self, texts: list[bytes]) -> SampledTokenizer: ...
    def peek(self, texts: list[bytes], step: int) -> SampledTokenizer: ...
    def replay(self, batches: list[list[bytes]], step: int) -> None: ...
    def state(self) -> tuple[int, int, int]:
        """The next step's number, the batches in the queue, the slots."""

@final
class SampledTokenizer:
    def __len__(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def noise(self) -> float: ...
    @property
    def pattern(self) -> str: ...
    @property
    def source_share(self) -> float: ...
    @property
    def is_greedy(self) -> bool: ...
    @property
    def step(self) -> int: ...
    def table(self) -> tuple[bytes, NDArray[np.int64]]:
        """All tokens in one buffer and offsets int64[n + 1]."""
    def scores(self) -> NDArray[np.float64]: ...
    def slots(self) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """The slot of each token and its birth: the pair is given to no other bytes."""
    def encode_batch(
        self, texts: list[bytes], threads: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]: ...
    def to_json(self) -> bytes: ...
