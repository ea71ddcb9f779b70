//! Runs of pretokens, for merges that cross them: BoundlessBPE (Schmidt, Tanner, Pinter 2025, arXiv:2504.00178).
//!
//! Counting comes before the tokenizer is known, so a counted run is a maximal run of pretokens that hold a letter, and
//! is broken later where a pretoken is not one token. Its bytes are `(length: varint, bytes)` for each pretoken.

use std::ops::ControlFlow;

use hashbrown::HashMap;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::encode::Stage;
use crate::error::Result;
use crate::ids::TokenId;
use crate::pipeline::PieceScratch;
use crate::train::cutter::PieceSink;
use crate::train::tokens::Tokens;

/// Hands the runs of a document to `sink`; its pretokens end at `ends`.
pub(in crate::train) fn join(text: &[u8], ends: &[u32], sink: &mut impl PieceSink) -> ControlFlow<()> {
    let mut joining = Joining::new(sink);
    let mut start = 0;
    for &end in ends {
        joining.add(&text[start..end as usize])?;
        start = end as usize;
    }
    joining.flush()
}

/// Puts pretokens together.
struct Joining<'s, S> {
    run: Vec<u8>,
    pretokens: usize,
    sink: &'s mut S,
}

impl<'s, S: PieceSink> Joining<'s, S> {
    fn new(sink: &'s mut S) -> Self {
        Self { run: Vec::new(), pretokens: 0, sink }
    }

    /// Hands out the run in hand; one pretoken alone has nothing to merge with.
    fn flush(&mut self) -> ControlFlow<()> {
        let pretokens = std::mem::take(&mut self.pretokens);
        let done =
            if pretokens > 1 { self.sink.piece(&self.run, 0..self.run.len()) } else { ControlFlow::Continue(()) };
        self.run.clear();
        done
    }

    fn add(&mut self, pretoken: &[u8]) -> ControlFlow<()> {
        if !has_letter(pretoken) {
            return self.flush();
        }
        let mut length = pretoken.len();
        while length >= 0x80 {
            self.run.push((length & 0x7F) as u8 | 0x80);
            length >>= 7;
        }
        self.run.push(length as u8);
        self.run.extend_from_slice(pretoken);
        self.pretokens += 1;
        ControlFlow::Continue(())
    }
}

/// Whether a pretoken holds a letter (`\p{L}`).
pub(super) fn has_letter(pretoken: &[u8]) -> bool {
    pretoken.iter().any(u8::is_ascii_alphabetic)
        || pretoken.utf8_chunks().any(|chunk| {
            chunk.valid().chars().any(|c| !c.is_ascii() && c.general_category_group() == GeneralCategoryGroup::Letter)
        })
}

/// The pretokens of a counted run; `None` for bytes that are none.
fn pretokens(mut run: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if run.is_empty() {
            return None;
        }
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let Some((&byte, rest)) = run.split_first() else { return Some(None) };
            run = rest;
            length |= usize::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
        let Some(pretoken) = run.get(..length) else {
            run = &[];
            return Some(None);
        };
        run = &run[length..];
        Some(Some(pretoken))
    })
}

/// Which pretokens are one token.
pub struct Runs {
    ids: HashMap<Box<[u8]>, TokenId>,
}

impl Runs {
    /// Looks at each token: whether its bytes encode to it. O(bytes of the tokens) but for long ones.
    ///
    /// # Errors
    /// As [`Stage::new`].
    pub fn new(tokens: &Tokens, merges: &[(TokenId, TokenId, TokenId)]) -> Result<Self> {
        let stage = Stage::new(tokens, merges)?;
        let mut scratch = stage.scratch();
        Ok(Self { ids: single(&stage, tokens, &mut scratch) })
    }

    /// Appends the sequences of a counted run to `out`, each as its length and its ids: maximal runs of two and more
    /// pretokens that are one token each.
    ///
    /// `false` for bytes that are no run.
    pub(super) fn encode(&self, run: &[u8], out: &mut Vec<Vec<TokenId>>) -> bool {
        let mut sequence = Vec::new();
        for pretoken in pretokens(run) {
            let Some(pretoken) = pretoken else { return false };
            match self.ids.get(pretoken) {
                Some(&id) => sequence.push(id),
                None if sequence.len() > 1 => out.push(std::mem::take(&mut sequence)),
                None => sequence.clear(),
            }
        }
        if sequence.len() > 1 {
            out.push(sequence);
        }
        true
    }
}

/// Tokens with a letter that their own bytes encode to, by their bytes.
pub(super) fn single(stage: &Stage, tokens: &Tokens, scratch: &mut PieceScratch) -> HashMap<Box<[u8]>, TokenId> {
    let mut ids = HashMap::new();
    let mut encoded = Vec::new();
    for (id, token) in (0..).zip(tokens.iter()) {
        if token.is_empty() || !has_letter(token) {
            continue;
        }
        encoded.clear();
        stage.encode(token, scratch, &mut encoded);
        if encoded == [id] {
            ids.insert(token.into(), id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    #[derive(Default)]
    struct Collect(Vec<Vec<Vec<u8>>>);

    impl PieceSink for Collect {
        fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
            self.0.push(pretokens(&text[range]).map(|p| p.expect("a run").to_vec()).collect());
            ControlFlow::Continue(())
        }
    }

    #[test]
    fn runs_are_maximal_and_their_pretokens_come_back() {
        let long = "x".repeat(300);
        let mut all = Collect::default();
        let mut joining = Joining::new(&mut all);
        for pretoken in ["a", " b", ",", " alone", ".", "'s", &long, "é", "12", " z"] {
            let _ = joining.add(pretoken.as_bytes());
        }
        let _ = joining.flush();
        let expected: [&[&str]; 2] = [&["a", " b"], &["'s", &long, "é"]];
        let expected: Vec<Vec<Vec<u8>>> =
            expected.iter().map(|run| run.iter().map(|p| p.as_bytes().to_vec()).collect()).collect();
        assert_eq!(all.0, expected);
    }

    #[test]
    fn bytes_that_are_no_run_are_told() {
        assert!(pretokens(&[5, b'a']).any(|p| p.is_none()));
        assert!(pretokens(&[0x80]).any(|p| p.is_none()));
        assert!(pretokens(&[0xFF; 12]).any(|p| p.is_none()));
    }

    #[test]
    fn letters_are_those_of_unicode() {
        for (text, expected) in
            [("a", true), ("漢", true), ("ª", true), ("1", false), ("\u{0345}", false), ("Ⅷ", false)]
        {
            assert_eq!(has_letter(text.as_bytes()), expected, "{text}");
        }
        assert!(!has_letter(b"\xff\x80"));
    }
}
