//! The steps of a decoder.

use std::borrow::Cow;

use super::byte_alphabet;
use crate::error::Result;
use crate::normalize::replace::Search;
use crate::normalize::text::units;

/// The tokens between two steps.
pub(super) type Tokens<'t> = Vec<Cow<'t, [u8]>>;

/// The English clean-up of WordPiece and CTC: what is replaced by what, in this order.
const CLEANUP: [(&[u8], &[u8]); 11] = [
    (b" .", b"."),
    (b" ?", b"?"),
    (b" !", b"!"),
    (b" ,", b","),
    (b" ' ", b"'"),
    (b" n't", b"n't"),
    (b" 'm", b"'m"),
    (b" do not", b" don't"),
    (b" 's", b"'s"),
    (b" 've", b"'ve"),
    (b" 're", b"'re"),
];

/// One decoder; sequences are flat.
#[derive(Clone, Debug)]
pub(super) enum Step {
    ByteLevel,
    WordPiece { prefix: Vec<u8>, cleanup: bool },
    Metaspace { mark: Vec<u8>, strips_first: bool },
    BpeSuffix(Vec<u8>),
    ByteFallback,
    Fuse,
    Replace { search: Search, content: Vec<u8> },
    Strip { content: Vec<u8>, start: usize, stop: usize },
    Ctc { pad: Vec<u8>, delimiter: Vec<u8>, cleanup: bool },
}

impl Step {
    /// Whether one token is left after it.
    pub(super) fn fuses(&self) -> bool {
        matches!(self, Self::Fuse | Self::ByteLevel)
    }

    /// What becomes of a list of tokens.
    pub(super) fn apply<'t>(&self, tokens: Tokens<'t>) -> Result<Tokens<'t>> {
        match self {
            Self::ByteLevel => {
                let mut out = Vec::with_capacity(tokens.iter().map(|t| t.len()).sum());
                for token in &tokens {
                    push_byte_level(token, &mut out);
                }
                Ok(vec![Cow::Owned(out)])
            }
            Self::Fuse => Ok(vec![Cow::Owned(tokens.concat())]),
            Self::ByteFallback => Ok(byte_fallback(tokens)),
            Self::Ctc { pad, delimiter, cleanup } => Ok(ctc(tokens, pad, delimiter, *cleanup)),
            Self::WordPiece { .. } | Self::Metaspace { .. } | Self::BpeSuffix(_) => {
                let last = tokens.len().saturating_sub(1);
                Ok(tokens.into_iter().enumerate().map(|(i, token)| self.at(token, i == 0, i == last)).collect())
            }
            Self::Replace { search, content } => {
                tokens.into_iter().map(|token| replace(token, search, content)).collect()
            }
            Self::Strip { content, start, stop } => {
                Ok(tokens.into_iter().map(|token| strip(token, content, *start, *stop)).collect())
            }
        }
    }

    /// What becomes of one token among others. Once tokens are fused, the ends of the text are out of sight.
    pub(super) fn apply_inside(&self, token: Vec<u8>, is_fused: bool) -> Result<Vec<u8>> {
        let token = Cow::Owned(token);
        Ok(match self {
            Self::Fuse => token,
            Self::WordPiece { .. } | Self::Metaspace { .. } | Self::BpeSuffix(_) => self.at(token, false, false),
            Self::Strip { .. } if is_fused => token,
            _ => Cow::Owned(self.apply(vec![token])?.concat()),
        }
        .into_owned())
    }

    /// What becomes of a token by its place, for the steps that look at it.
    fn at<'t>(&self, token: Cow<'t, [u8]>, is_first: bool, is_last: bool) -> Cow<'t, [u8]> {
        match self {
            Self::WordPiece { prefix, cleanup } => {
                let token = if is_first {
                    token
                } else if let Some(rest) = token.strip_prefix(&prefix[..]) {
                    Cow::Owned(rest.to_vec())
                } else {
                    Cow::Owned([b" ", &token[..]].concat())
                };
                if *cleanup { clean_up(token) } else { token }
            }
            Self::Metaspace { mark, strips_first } => {
                replace_all(token, mark, if is_first && *strips_first { b"" } else { b" " })
            }
            Self::BpeSuffix(suffix) => replace_all(token, suffix, if is_last { b"" } else { b" " }),
            _ => token,
        }
    }
}

fn push_byte_level(token: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if byte_alphabet::decode_into(token, out).is_none() {
        // A token with a character of no byte is taken as it is, whole.
        out.truncate(start);
        out.extend_from_slice(token);
    }
}

/// The byte of `<0xNN>`; a sign is a digit to `u8::from_str_radix`, so `<0x+A>` is one too.
fn byte_of(token: &[u8]) -> Option<u8> {
    let digits: &[u8; 2] = token.strip_prefix(b"<0x")?.strip_suffix(b">")?.try_into().ok()?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Every run of byte tokens becomes one token if it is UTF-8, and a token per byte otherwise.
fn byte_fallback(tokens: Tokens<'_>) -> Tokens<'_> {
    fn flush(run: &mut Vec<u8>, out: &mut Tokens<'_>) {
        if std::str::from_utf8(run).is_err() {
            out.extend(run.drain(..).map(|byte| Cow::Owned(vec![byte])));
        } else if !run.is_empty() {
            out.push(Cow::Owned(std::mem::take(run)));
        }
    }
    let mut out = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    for token in tokens {
        match byte_of(&token) {
            Some(byte) => run.push(byte),
            None => {
                flush(&mut run, &mut out);
                out.push(token);
            }
        }
    }
    flush(&mut run, &mut out);
    out
}

fn ctc<'t>(mut tokens: Tokens<'t>, pad: &[u8], delimiter: &[u8], cleanup: bool) -> Tokens<'t> {
    tokens.dedup();
    tokens
        .into_iter()
        .map(|token| {
            let token = replace_all(token, pad, b"");
            if cleanup { replace_all(clean_up(token), delimiter, b" ") } else { token }
        })
        .filter(|token| !token.is_empty())
        .collect()
}

fn clean_up(token: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    // Every pattern starts with a space.
    if memchr::memchr(b' ', &token).is_none() {
        return token;
    }
    CLEANUP.iter().fold(token, |token, (from, to)| replace_all(token, from, to))
}

/// `str::replace`: an empty `from` is between all characters and at both ends.
pub(super) fn replace_all<'t>(token: Cow<'t, [u8]>, from: &[u8], to: &[u8]) -> Cow<'t, [u8]> {
    if from.is_empty() {
        if to.is_empty() {
            return token;
        }
        let mut out = Vec::new();
        for (start, end, _) in units(&token) {
            out.extend_from_slice(to);
            out.extend_from_slice(&token[start..end]);
        }
        out.extend_from_slice(to);
        return Cow::Owned(out);
    }
    let mut found = memchr::memmem::find_iter(&token, from).peekable();
    if found.peek().is_none() {
        return token;
    }
    let mut out = Vec::with_capacity(token.len());
    let mut kept = 0;
    for at in found {
        out.extend_from_slice(&token[kept..at]);
        out.extend_from_slice(to);
        kept = at + from.len();
    }
    out.extend_from_slice(&token[kept..]);
    Cow::Owned(out)
}

fn replace<'t>(token: Cow<'t, [u8]>, search: &Search, content: &[u8]) -> Result<Cow<'t, [u8]>> {
    let mut out = Vec::new();
    let mut kept = 0;
    let mut is_changed = false;
    if token.is_empty() {
        // tokenizers searches no empty token, even where the pattern would match.
        return Ok(token);
    }
    search.for_each(&token, |found| {
        out.extend_from_slice(&token[kept..found.start]);
        out.extend_from_slice(content);
        kept = found.end;
        is_changed = true;
        Ok(())
    })?;
    if !is_changed {
        return Ok(token);
    }
    out.extend_from_slice(&token[kept..]);
    Ok(Cow::Owned(out))
}

fn strip<'t>(token: Cow<'t, [u8]>, content: &[u8], start: usize, stop: usize) -> Cow<'t, [u8]> {
    let mut rest = &token[..];
    let mut tail = &token[..];
    for _ in 0..start {
        match rest.strip_prefix(content) {
            Some(shorter) => rest = shorter,
            None => break,
        }
    }
    for _ in 0..stop {
        match tail.strip_suffix(content) {
            Some(shorter) => tail = shorter,
            None => break,
        }
    }
    let from = token.len() - rest.len();
    // Both ends may ask for the same character.
    let to = tail.len().max(from);
    if (from, to) == (0, token.len()) { token } else { Cow::Owned(token[from..to].to_vec()) }
}
