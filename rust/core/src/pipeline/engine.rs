//! One face for the models, and the buffers of one thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::bpe::{BpeEngine, BpeInput, BpeScratch};
use crate::error::{Error, Result};
use crate::formats::{Description, Model};
use crate::ids::{NO_TOKEN, TokenId};
use crate::limits::Limits;
use crate::piececache::{PieceCache, ShortKey};
use crate::{trie, unigram, wordlevel, wordpiece};

/// Where ids go.
pub(crate) trait Sink {
    fn push(&mut self, id: TokenId);
    fn many(&mut self, ids: &[TokenId]);
    /// The ids up to the first `NO_TOKEN`, of which there is at least one.
    fn few<const N: usize>(&mut self, ids: &[TokenId; N]);
}

/// How many ids come before the first `NO_TOKEN`; no branch that depends on the text.
#[inline(always)]
fn count_few(ids: &[TokenId]) -> usize {
    ids.iter().map(|&id| usize::from(id != NO_TOKEN)).sum()
}

impl Sink for Vec<TokenId> {
    #[inline]
    fn push(&mut self, id: TokenId) {
        Vec::push(self, id);
    }

    #[inline]
    fn many(&mut self, ids: &[TokenId]) {
        self.extend_from_slice(ids);
    }

    #[inline]
    fn few<const N: usize>(&mut self, ids: &[TokenId; N]) {
        // A copy of constant size, of which what is too much is taken back, costs less than a loop.
        let end = self.len() + count_few(ids);
        self.extend_from_slice(ids);
        self.truncate(end);
    }
}

/// Counts ids without keeping them.
#[derive(Default)]
pub(crate) struct Counter(pub(crate) usize);

impl Sink for Counter {
    #[inline]
    fn push(&mut self, _: TokenId) {
        self.0 += 1;
    }

    #[inline]
    fn many(&mut self, ids: &[TokenId]) {
        self.0 += ids.len();
    }

    #[inline]
    fn few<const N: usize>(&mut self, ids: &[TokenId; N]) {
        self.0 += count_few(ids);
    }
}

#[inline(always)]
fn write_cached<const N: usize>(ids: &[TokenId; N], cache: &PieceCache, sink: &mut impl Sink) {
    match cache.listed(ids) {
        None => sink.few(ids),
        Some(ids) => sink.many(ids),
    }
}

/// A model ready to encode pretokens.
pub(crate) enum Engine {
    Bpe(Box<BpeEngine>),
    Unigram(Box<unigram::Engine>),
    WordPiece(Box<wordpiece::Engine>),
    WordLevel(Box<wordlevel::Engine>),
    Trie(Box<trie::Engine>),
}

/// Pretokens between two looks at the caller's wish to stop: far less than a millisecond.
const LOOK_EVERY: u32 = 4096;

/// Buffers of one thread, kept between calls.
pub(crate) struct Scratch {
    pub(crate) cache: PieceCache,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) lens: Vec<u32>,
    pub(crate) buffer: Vec<u8>,
    /// Who may stop the call that uses this scratch.
    pub(crate) cancel: Option<Arc<Cancel>>,
    until_look: u32,
    bpe: BpeScratch,
    unigram: unigram::Scratch,
    wordpiece: wordpiece::Scratch,
    wordlevel: wordlevel::Scratch,
    trie: trie::Scratch,
}

impl Scratch {
    /// Whether the call is no longer wanted; looks once in [`LOOK_EVERY`] times.
    #[inline]
    pub(crate) fn is_cancelled(&mut self) -> bool {
        self.until_look -= 1;
        if self.until_look > 0 {
            return false;
        }
        self.until_look = LOOK_EVERY;
        self.cancel.as_ref().is_some_and(|cancel| cancel.is_cancelled())
    }

    fn new() -> Self {
        Self {
            cache: PieceCache::new(),
            ids: Vec::new(),
            lens: Vec::new(),
            buffer: Vec::new(),
            cancel: None,
            until_look: LOOK_EVERY,
            bpe: BpeScratch::default(),
            unigram: unigram::Scratch::default(),
            wordpiece: wordpiece::Scratch,
            wordlevel: wordlevel::Scratch,
            trie: trie::Scratch,
        }
    }
}

/// Scratches at rest; a call takes one and gives it back, so there are as many as there were calls at once.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    pub(crate) fn take(&self) -> Scratch {
        let mut pool = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pool.pop().unwrap_or_else(Scratch::new)
    }

    pub(crate) fn give(&self, mut scratch: Scratch) {
        scratch.cancel = None;
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(scratch);
    }
}

/// Set by the caller when the work is no longer wanted.
#[derive(Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks the work to stop at the next pretoken or text.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// `raw_bytes` says that pretokens are raw bytes where the vocabulary is written in the byte alphabet.
    pub(crate) fn new(description: &Description, raw_bytes: bool, marked: bool, limits: &Limits) -> Result<Self> {
        if matches!(description.model, Model::WordPiece(_)) && super::shape::writes_alphabet(&description.pre_tokenizer)
        {
            return Err(Error::unsupported(
                "pre_tokenizer",
                "ByteLevel before a WordPiece model, whose tokens are words of text",
                "use BertPreTokenizer, or another model",
            ));
        }
        Ok(match &description.model {
            Model::Bpe(model) => {
                let input = BpeInput { byte_level: raw_bytes, space_is: marked.then_some('▁') };
                Engine::Bpe(Box::new(BpeEngine::new(model, input)?))
            }
            Model::Unigram(model) => Engine::Unigram(Box::new(unigram::Engine::new(model, limits)?)),
            Model::WordPiece(model) => Engine::WordPiece(Box::new(wordpiece::Engine::new(model, limits)?)),
            Model::WordLevel(model) => Engine::WordLevel(Box::new(wordlevel::Engine::new(model, limits)?)),
            Model::Trie(model) => Engine::Trie(Box::new(trie::Engine::new(model, limits)?)),
        })
    }

    /// Writes the ids of one pretoken to the sink.
    #[inline]
    pub(crate) fn piece(&self, text: &[u8], start: usize, end: usize, scratch: &mut Scratch, sink: &mut impl Sink) {
        if PieceCache::is_short(end - start) {
            let key = PieceCache::short_key(text, start, end);
            match scratch.cache.get_short(key) {
                Some(ids) => write_cached(ids, &scratch.cache, sink),
                None => self.miss(&text[start..end], key, scratch, sink),
            }
        } else {
            self.long_piece(text, start, end, scratch, sink);
        }
    }

    #[cold]
    #[inline(never)]
    fn miss(&self, piece: &[u8], key: ShortKey, scratch: &mut Scratch, sink: &mut impl Sink) {
        let mut ids = std::mem::take(&mut scratch.ids);
        ids.clear();
        self.encode(piece, scratch, &mut ids);
        scratch.cache.put_short(key, &ids);
        sink.many(&ids);
        scratch.ids = ids;
    }

    #[inline(never)]
    fn long_piece(&self, text: &[u8], start: usize, end: usize, scratch: &mut Scratch, sink: &mut impl Sink) {
        let key = PieceCache::is_long(end - start).then(|| PieceCache::long_key(text, start, end));
        if let Some(ids) = key.and_then(|key| scratch.cache.get_long(&key)) {
            return write_cached(ids, &scratch.cache, sink);
        }
        let mut ids = std::mem::take(&mut scratch.ids);
        ids.clear();
        self.encode(&text[start..end], scratch, &mut ids);
        if let Some(key) = key {
            scratch.cache.put_long(key, &ids);
        }
        sink.many(&ids);
        if ids.capacity() > 1 << 16 {
            ids = Vec::new(); // a huge pretoken's buffer is not kept
        }
        scratch.ids = ids;
    }

    /// Appends the ids of one pretoken, without the cache.
    pub(crate) fn encode(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        match self {
            Engine::Bpe(engine) => engine.encode(piece, &mut scratch.bpe, out),
            Engine::Unigram(engine) => engine.encode(piece, &mut scratch.unigram, out),
            Engine::WordPiece(engine) => engine.encode(piece, &mut scratch.wordpiece, out),
            Engine::WordLevel(engine) => engine.encode(piece, &mut scratch.wordlevel, out),
            Engine::Trie(engine) => engine.encode(piece, &mut scratch.trie, out),
        }
    }

    /// Appends the ids of one pretoken and the ranges of its bytes that they stand for.
    pub(crate) fn encode_with_spans(
        &self,
        piece: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<TokenId>,
        spans: &mut Vec<(u32, u32)>,
    ) {
        let lens = &mut scratch.lens;
        lens.clear();
        match self {
            Engine::Bpe(engine) => return engine.encode_with_spans(piece, &mut scratch.bpe, out, spans),
            Engine::Unigram(engine) => engine.encode_with_lens(piece, &mut scratch.unigram, out, lens),
            Engine::WordPiece(engine) => engine.encode_with_lens(piece, &mut scratch.wordpiece, out, lens),
            Engine::WordLevel(engine) => engine.encode_with_lens(piece, &mut scratch.wordlevel, out, lens),
            Engine::Trie(engine) => engine.encode_with_lens(piece, &mut scratch.trie, out, lens),
        }
        let mut at = 0;
        for len in &scratch.lens {
            spans.push((at, at + len));
            at += len;
        }
    }

    /// The end of the part of `text` that starts at `from` and may be encoded on its own.
    #[inline]
    pub(crate) fn next_cut(&self, text: &[u8], from: usize) -> usize {
        match self {
            Engine::Bpe(engine) => engine.next_cut(text, from),
            _ => text.len(),
        }
    }
}
