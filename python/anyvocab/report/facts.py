"""The facts of a vocabulary, as plain data: what `anyvocab inspect` prints and its page draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from anyvocab.report.scripts import script_of
from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyvocab import Tokenizer, Vocabulary

__all__ = ["RoleFact", "TokenFact", "VocabularyFacts", "vocabulary_facts"]

EXAMPLES = 12
_STANDS_FOR_TEXT = frozenset({"text", "byte", "added"})


@dataclass(frozen=True)
class TokenFact:
    """A token as an example of something.

    Attributes:
        id: Its id.
        text: Its bytes as visible text, cut when long.
        bytes: Its length in bytes.
    """

    id: int
    text: str
    bytes: int


@dataclass(frozen=True)
class RoleFact:
    """One source's word for one role of one id."""

    role: str
    id: int
    token: str
    source: str


@dataclass(frozen=True)
class Shared:
    """Ids with the same bytes."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class VocabularyFacts:
    """What a vocabulary holds. Lengths are bytes; counts are of ids.

    Attributes:
        name: What was loaded.
        format: The format it was read from.
        model_type: `BPE`, `Unigram`, ...
        ids: The number of ids, holes included.
        kinds: Kind to the number of its ids.
        roles: Every role, best source first.
        problems: Declarations that fit no token: `source: found`.
        lengths: Length to how many tokens that stand for text have it, ascending.
        scripts: Script to the number of tokens, most frequent first.
        holes: Ids without a token.
        empty: Tokens that stand for text and have none.
        duplicates: Byte strings that several ids share.
        duplicate_examples: Some of them.
        partial_utf8: Tokens that are not valid UTF-8 on their own.
        unreachable: Text tokens that the tokenizer does not give back for their own bytes.
        unreachable_examples: Some of them.
        multiword: Tokens that span several words.
        multiword_examples: The longest of them.
        longest: The longest tokens, longest first.
        missing_bytes: Bytes that no token stands for alone.
    """

    name: str
    format: str
    model_type: str
    ids: int
    kinds: dict[str, int]
    roles: tuple[RoleFact, ...]
    problems: tuple[str, ...]
    lengths: dict[int, int]
    scripts: dict[str, int]
    holes: int
    empty: int
    duplicates: int
    duplicate_examples: tuple[Shared, ...]
    partial_utf8: int
    unreachable: int
    unreachable_examples: tuple[TokenFact, ...]
    multiword: int
    multiword_examples: tuple[TokenFact, ...]
    longest: tuple[TokenFact, ...]
    missing_bytes: int

    @property
    def mean_length(self) -> float:
        """The mean length of the tokens that stand for text, in bytes; 0 when there are none."""
        tokens = sum(self.lengths.values())
        total = sum(length * count for length, count in self.lengths.items())
        return total / tokens if tokens else 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the facts as JSON can write them."""
        return asdict(self) | {"mean_length": round(self.mean_length, 4)}


def vocabulary_facts(tokenizer: Tokenizer, *, name: str | None = None) -> VocabularyFacts:
    """Return the facts of a tokenizer's vocabulary. O(total bytes of the tokens).

    Args:
        tokenizer: The tokenizer.
        name: What to call it; its type when left out.
    """
    vocabulary = tokenizer.vocabulary
    lengths: Counter[int] = Counter()
    scripts: Counter[str] = Counter()
    multiword: list[int] = []
    sizes = vocabulary.lengths().tolist()
    kinds = _kinds_of(vocabulary)
    for id, size in enumerate(sizes):
        if kinds[id] not in _STANDS_FOR_TEXT or not size:
            continue
        token = vocabulary.token_bytes(id) or b""
        lengths[size] += 1
        scripts[script_of(token)] += 1
        if b" " in token.strip() and _words(token) > 1:
            multiword.append(id)
    text_ids = (id for id, kind in enumerate(kinds) if kind in _STANDS_FOR_TEXT)
    longest = sorted(text_ids, key=lambda id: (-sizes[id], id))[:EXAMPLES]
    multiword.sort(key=lambda id: (-sizes[id], id))
    duplicates = vocabulary.duplicates()
    unreachable = vocabulary.unreachable().tolist()
    return VocabularyFacts(
        name=name if name is not None else f"{tokenizer.model_type} tokenizer",
        format=tokenizer.format,
        model_type=tokenizer.model_type,
        ids=len(vocabulary),
        kinds=vocabulary.kind_counts(),
        roles=tuple(
            RoleFact(one.role, one.id, one_line(vocabulary.spelling(one.id) or b""), one.source)
            for one in vocabulary.roles
        ),
        problems=tuple(f"{one.source}: {one.found}" for one in vocabulary.roles.problems),
        lengths=dict(sorted(lengths.items())),
        scripts=dict(sorted(scripts.items(), key=lambda item: (-item[1], item[0]))),
        holes=len(vocabulary.holes()),
        empty=len(vocabulary.empty()),
        duplicates=len(duplicates),
        duplicate_examples=tuple(
            Shared(one_line(token), ids) for token, ids in list(duplicates.items())[:EXAMPLES]
        ),
        partial_utf8=len(vocabulary.partial_utf8()),
        unreachable=len(unreachable),
        unreachable_examples=_examples(vocabulary, unreachable),
        multiword=len(multiword),
        multiword_examples=_examples(vocabulary, multiword),
        longest=_examples(vocabulary, longest),
        missing_bytes=sum(not len(vocabulary.ids_of(bytes([byte]))) for byte in range(256)),
    )


def _kinds_of(vocabulary: Vocabulary) -> list[str]:
    kinds = [""] * len(vocabulary)
    for kind in vocabulary.kind_counts():
        for id in vocabulary.ids_of_kind(kind).tolist():
            kinds[id] = kind
    return kinds


def _examples(vocabulary: Vocabulary, ids: Iterable[int]) -> tuple[TokenFact, ...]:
    found = []
    for id in list(ids)[:EXAMPLES]:
        token = vocabulary.token_bytes(id) or b""
        found.append(TokenFact(id, one_line(token), len(token)))
    return tuple(found)


def _words(token: bytes) -> int:
    parts = token.decode("utf-8", "ignore").split()
    return sum(any(map(str.isalnum, part)) for part in parts)
