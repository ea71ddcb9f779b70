# Run once when the module is made: the classes of the errors that the core raises.


class AnyvocabError(Exception):
    """The root of every error of anyvocab: its text names the file, the field, the finding and the fix."""

    file = None
    field = ""
    fix = ""


class TokenizerFormatError(AnyvocabError, ValueError):
    """A tokenizer file is malformed, truncated or contradicts itself."""


class UnsupportedTokenizer(AnyvocabError, ValueError):
    """A tokenizer asks for something that cannot be represented exactly."""


class LimitExceeded(AnyvocabError, ValueError):
    """An input is over a bound that guards against hostile files."""


class InvalidValue(AnyvocabError, ValueError):
    """An argument is out of range."""


class StorageError(AnyvocabError, OSError):
    """A file of ours could not be written or read back: a full disk, a truncated file."""


class InternalError(AnyvocabError):
    """A defect of anyvocab itself: please report it, with the text of this error."""
