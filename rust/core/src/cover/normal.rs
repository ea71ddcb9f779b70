//! Texts that the normalizer leaves as they are.
//!
//! Canonical encodings are of normalized text: a token that makes a text which the normalizer would change, whatever
//! follows, cannot be canonical. What normalizers do falls into three parts, and a text stays as it is when each part
//! leaves it:
//!
//! - Characters change by themselves, or by composing with neighbours ([`Test`]). Every stretch of a normal text is normal,
//!   and a text is normal when every stretch between two characters that compose with nothing is; so only the end of the
//!   text has to be looked at again.
//! - White space is taken away ([`White`]): at the ends of a text, and behind other white space. A space at the end is
//!   right only while the text goes on.
//! - Spaces are written as a mark, with perhaps one in front. The rest of [`super`] reads marks as spaces.
//!
//! All steps of a normalizer together may leave a text that one of them changes and another changes back. Where several
//! characterwise steps follow each other they are judged as one; white space goes with at most one of them, which is
//! idempotent and composes nothing across a space, so what white space is taken from is a text that it leaves.

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick, is_nfkc_quick};

use super::rules::Rules;
use crate::formats::{Description, Model, Normalizer, Pattern, PreTokenizer, SentencePieceNormalizer, Symbols};
use crate::index::VocabIndex;
use crate::limits::Limits;
use crate::normalize::{self, charsmap::Charsmap};
use crate::pipeline;

/// What a space is written as.
const MARK: &str = "▁";

/// Bytes of text that are looked at again for composing marks, at most; no more than so many compose.
const WINDOW: usize = 256;

/// Characters tried as ones that no token holds.
const STRANGERS: u32 = 256;

/// The test.
pub(super) struct Normal {
    test: Test,
    pub(super) white: White,
}

/// How characters change.
enum Test {
    /// Not at all.
    Free,
    /// By normal forms and letter case.
    Steps(Box<normalize::Compiled>),
    /// By a SentencePiece character map.
    Rules(Rules),
}

/// What white space is taken away.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct White {
    /// All spaces behind a space.
    pub(super) doubled: bool,
    /// At the start of a text.
    pub(super) left: Edge,
    /// At its end.
    pub(super) right: Edge,
}

/// What is taken away at an end of a text.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Edge {
    #[default]
    Nothing,
    /// Spaces.
    Spaces,
    /// Whatever Unicode calls white space.
    White,
}

impl Edge {
    fn takes(self, c: Option<char>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Spaces => c == Some(' '),
            Self::White => c.is_some_and(char::is_whitespace),
        }
    }

    /// Whether something is taken off the start of a text.
    pub(super) fn takes_start(self, text: &[u8]) -> bool {
        self != Self::Nothing && self.takes(text.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()))
    }

    /// Whether something is taken off its end.
    pub(super) fn takes_end(self, text: &[u8]) -> bool {
        let last = || text[text.len().saturating_sub(4)..].utf8_chunks().last();
        let whole = |chunk: &std::str::Utf8Chunk<'_>| chunk.invalid().is_empty();
        self != Self::Nothing && self.takes(last().filter(whole).and_then(|chunk| chunk.valid().chars().next_back()))
    }
}

impl Normal {
    /// The test of a tokenizer whose texts are normalized; `None` where no text is ever changed but for its spaces.
    /// `Err` says what has no exact test.
    pub(super) fn new(description: &Description, index: &VocabIndex, limits: &Limits) -> Result<Option<Self>, String> {
        let steps = pipeline::normalizer_steps(&description.normalizer);
        let this = match steps.as_slice() {
            [] => return Ok(None),
            [Normalizer::SentencePiece(spec)] => Self::of_sentencepiece(spec, description, limits)?,
            _ => Self::of_steps(&steps, description, limits)?,
        };
        if this.white != White::default() {
            this.check_white(description, index)?;
        }
        let changes = !matches!(this.test, Test::Free) || this.white != White::default();
        Ok(changes.then_some(this))
    }

    fn of_sentencepiece(
        spec: &SentencePieceNormalizer,
        description: &Description,
        limits: &Limits,
    ) -> Result<Self, String> {
        if spec.add_dummy_prefix && spec.treat_whitespace_as_suffix {
            return Err("a normalizer that puts a space behind a text".to_owned());
        }
        if !pipeline::pre_tokenizer_steps(&description.pre_tokenizer).is_empty() {
            return Err("a SentencePiece normalizer before a pre-tokenizer".to_owned());
        }
        if !spec.protected.is_empty() {
            return Err(
                "pieces of the user's, which a SentencePiece normalizer keeps whatever its rules say".to_owned()
            );
        }
        let test = if spec.charsmap.is_empty() {
            Test::Free
        } else {
            let map = Charsmap::new(&spec.charsmap, limits).map_err(|e| e.to_string())?;
            Test::Rules(Rules::new(&map)?)
        };
        let edge = if spec.remove_extra_whitespaces { Edge::Spaces } else { Edge::Nothing };
        Ok(Self { test, white: White { doubled: spec.remove_extra_whitespaces, left: edge, right: edge } })
    }

    fn of_steps(steps: &[&Normalizer], description: &Description, limits: &Limits) -> Result<Self, String> {
        let refused = || {
            let name = |step: &&Normalizer| format!("{step:?}").split([' ', '(', '{']).next().map(str::to_owned);
            Err(format!("the normalizer {}", steps.iter().filter_map(name).collect::<Vec<_>>().join(", ")))
        };
        let local = steps.iter().take_while(|step| is_local(step)).count();
        let (local, rest) = steps.split_at(local);
        let mut white = White::default();
        let takers = rest.iter().take_while(|step| white.add(step)).count();
        let bare = pipeline::pre_tokenizer_steps(&description.pre_tokenizer).is_empty();
        match &rest[takers..] {
            [] => {}
            [one] if bare && marks(one) => {}
            [Normalizer::Prepend(text), one] if bare && marks(one) && (text == MARK || text == " ") => {}
            [one, Normalizer::Prepend(text)] if bare && marks(one) && text == MARK => {}
            _ => return refused(),
        }
        if takers > 0 && local.len() > 1 {
            return refused();
        }
        if takers < rest.len() && description.added_tokens.iter().any(|token| token.normalized) {
            return Err("added tokens of the normalized text, in which spaces are marks".to_owned());
        }
        if white.doubled && white.left == Edge::Nothing && pipeline::always_puts_a_space_first(description) {
            return Err("a normalizer that keeps one space at the start, behind the one it puts there".to_owned());
        }
        let test = if local.is_empty() {
            Test::Free
        } else {
            let local = Normalizer::Sequence(local.iter().map(|&step| step.clone()).collect());
            Test::Steps(Box::new(normalize::Compiled::new(&local, limits).map_err(|e| e.to_string())?))
        };
        Ok(Self { test, white })
    }

    /// Behind white space that may not end a text something else must be able to follow, whatever the tokens before: a
    /// character that no token holds is, where no cut depends on it.
    fn check_white(&self, description: &Description, index: &VocabIndex) -> Result<(), String> {
        let pre = pipeline::pre_tokenizer_steps(&description.pre_tokenizer);
        if !matches!(pre.as_slice(), [] | [PreTokenizer::Metaspace { .. }]) {
            return Err("a normalizer that takes white space away, before a pre-tokenizer".to_owned());
        }
        let by_characters = matches!(&description.model, Model::Bpe(model) if model.symbols == Symbols::Chars && !model.ignore_merges)
            || matches!(&description.model, Model::Unigram(_));
        if !by_characters || pipeline::is_byte_level(description) {
            return Err("a normalizer that takes white space away, before a model of bytes".to_owned());
        }
        let is_free = |c: char| {
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            let held = |token: &[u8]| token.windows(text.len()).any(|part| part == text);
            self.keeps(text) && !(0..index.root().hi).any(|place| held(index.token(place)))
        };
        // Private use, plane 16.
        if (0..STRANGERS).any(|at| char::from_u32(0x10_0000 + at).is_some_and(is_free)) {
            return Ok(());
        }
        Err("a normalizer that takes white space away, and no character without a token".to_owned())
    }

    /// Whether a text is normal as far as its characters are complete; its white space is not looked at.
    pub(super) fn keeps(&self, text: &[u8]) -> bool {
        match &self.test {
            Test::Free => true,
            Test::Steps(steps) => {
                let complete = &text[..complete_len(text)];
                steps.apply(complete).is_ok_and(|normal| *normal == *complete)
            }
            Test::Rules(rules) => rules.keeps(text),
        }
    }

    /// Whether a token, normal by itself, is normal wherever it stands; in the order of places.
    pub(super) fn stand_alone(&self, index: &VocabIndex) -> Vec<bool> {
        let tokens = (0..index.root().hi).map(|place| index.token(place));
        match &self.test {
            Test::Free => tokens.map(|_| true).collect(),
            Test::Steps(_) => {
                let first = |token: &[u8]| token.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
                tokens.map(|token| first(token).is_some_and(composes_with_nothing_before)).collect()
            }
            Test::Rules(rules) => {
                let tails = rules.tails();
                tokens.map(|token| !tails.meet(token)).collect()
            }
        }
    }

    /// The end of a text on which it depends what may follow.
    pub(super) fn window<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        match &self.test {
            Test::Free => &[],
            Test::Rules(rules) => rules.window(text),
            Test::Steps(_) => {
                let mut at = text.len();
                let least = text.len().saturating_sub(WINDOW);
                while at > least {
                    at -= 1;
                    // What begins here is one character, perhaps one that is still incomplete, and what composes with it.
                    let begins = text[at] & 0xC0 != 0x80;
                    let first = text[at..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
                    if begins && first.is_some_and(composes_with_nothing_before) {
                        break;
                    }
                }
                &text[at..]
            }
        }
    }

    /// How many bytes of a text are enough for [`Self::window`], and for white space at its end.
    pub(super) fn room(&self) -> usize {
        match &self.test {
            Test::Free => 4,
            Test::Steps(_) => WINDOW,
            Test::Rules(rules) => rules.longest().max(4),
        }
    }
}

fn is_local(step: &Normalizer) -> bool {
    use Normalizer::{Lowercase, Nfc, Nfd, Nfkc, Nfkd};
    matches!(step, Nfc | Nfd | Nfkc | Nfkd | Lowercase)
}

/// Whether a step writes spaces as marks.
fn marks(step: &Normalizer) -> bool {
    matches!(step, Normalizer::Replace { pattern: Pattern::Literal(from), content } if from == " " && content == MARK)
}

fn composes_with_nothing_before(c: char) -> bool {
    let text = std::iter::once(c);
    c.is_ascii()
        || (canonical_combining_class(c) == 0
            && is_nfc_quick(text.clone()) == IsNormalized::Yes
            && is_nfkc_quick(text) == IsNormalized::Yes)
}

impl White {
    /// Takes a step over; false where it does something else than taking white space away.
    fn add(&mut self, step: &Normalizer) -> bool {
        match step {
            Normalizer::Strip { left, right } => {
                self.left = if *left { Edge::White } else { self.left };
                self.right = if *right { Edge::White } else { self.right };
                true
            }
            Normalizer::Replace { pattern: Pattern::Regex(from), content } if from == " {2,}" && content == " " => {
                self.doubled = true;
                true
            }
            _ => false,
        }
    }
}

/// The length without an incomplete character at the end.
pub(super) fn complete_len(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(3);
    for at in (from..text.len()).rev() {
        let byte = text[at];
        if byte & 0xC0 == 0x80 {
            continue;
        }
        let wanted = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return text.len(),
        };
        // An incomplete character is one chunk of what is not UTF-8, up to the end.
        let tail = &text[at..];
        let open = tail.len() < wanted
            && std::str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none());
        return if open { at } else { text.len() };
    }
    text.len()
}
