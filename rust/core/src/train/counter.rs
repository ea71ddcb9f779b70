//! Counting the pretokens of a corpus on several threads in bounded memory.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use memchr::{memchr, memrchr};

use super::counts::{CountMap, Room};
use super::cutter::{Cutter, PieceSink};
use super::kway::{Merge, Source, overflow};
use super::runs::MakeFile;
use super::spill::Spill;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Cancel;

/// A thread takes about so many bytes at a time.
const ITEM: usize = 1 << 20;
/// Less than this is not worth a second thread.
const ALONE: usize = 1 << 18;
/// A document that comes in blocks is counted when so many bytes of it have come.
const FEED: usize = 8 << 20;
/// Pretokens between two looks at [`Cancel`].
const TICKS: u32 = 1 << 16;
/// Least memory of a thread's map.
const LEAST_MEMORY: usize = 1 << 16;

/// What bytes that are not UTF-8 are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Text like any other: they form pretokens of their own, as when the tokenizer encodes.
    Bytes,
    /// An error that names the document and the place.
    Error,
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documents {
    /// Each text.
    Texts,
    /// Each line of a text, with its line feed.
    Lines,
}

/// How a [`Counter`] counts. The counts depend on `documents` alone.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many threads count.
    pub threads: usize,
    /// Most bytes of all maps together; what has to leave them is written to files.
    pub memory_bytes: usize,
    /// What bytes that are not UTF-8 are.
    pub invalid: Invalid,
    /// What a document is.
    pub documents: Documents,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Documents, whatever their weights.
    pub documents: u64,
    /// Their bytes, before the normalizer, whatever their weights.
    pub bytes: u64,
    /// Pretokens, each as often as its document's weight says: the sum of all counts.
    pub pretokens: u64,
}

/// Counts pretokens.
///
/// Its result does not depend on the order of the documents, on threads, memory or on the blocks in which a document
/// came. After an error of [`Counter::add`], [`Counter::feed`] or [`Counter::end_document`] other than one of the
/// arguments, and after a cancelled call, the counts are incomplete and every further call is an error.
pub struct Counter {
    cutter: Cutter,
    settings: Settings,
    maps: Vec<CountMap>,
    spill: Spill,
    totals: Totals,
    open: Option<Open>,
    is_broken: bool,
}

/// A document that comes in blocks.
struct Open {
    weight: u64,
    /// What may still change: the document from some pretoken's start on.
    held: Vec<u8>,
    /// Bytes of the document before `held`, and how many bytes of `held` are known to be UTF-8.
    before: u64,
    checked: usize,
    /// Nothing is looked for before `held` has so many bytes.
    look_at: usize,
}

/// A part of a text that one thread counts.
struct Item {
    text: usize,
    range: Range<usize>,
}

impl Counter {
    /// A counter that makes files for what its memory cannot hold by `make_file`.
    ///
    /// # Errors
    /// `Value` for no thread, or memory for less than 64 KiB a thread.
    pub fn new(cutter: Cutter, settings: Settings, make_file: MakeFile) -> Result<Self> {
        if settings.threads == 0 {
            return Err(Error::value("threads", "0", "use at least 1"));
        }
        let budget = settings.memory_bytes / settings.threads;
        if budget < LEAST_MEMORY {
            let found = format!("{} bytes for {} threads", settings.memory_bytes, settings.threads);
            return Err(Error::value("memory_bytes", found, "give at least 65536 bytes for each thread"));
        }
        Ok(Self {
            cutter,
            settings,
            maps: (0..settings.threads).map(|_| CountMap::new(budget)).collect(),
            spill: Spill::new(make_file),
            totals: Totals::default(),
            open: None,
            is_broken: false,
        })
    }

    /// Counts `texts`, each pretoken `weight` times.
    ///
    /// # Errors
    /// `Value` for a weight of 0, while a document is open, for a text that is not UTF-8 where that is asked for (then
    /// none of the texts was counted), for counts over `u64::MAX`; those of [`Cutter::cut`]; `Storage` when a file cannot
    /// be written.
    pub fn add(&mut self, texts: &[&[u8]], weight: u64, cancel: &Cancel) -> Result<()> {
        self.check(weight)?;
        if self.open.is_some() {
            return Err(open_document());
        }
        texts.iter().try_for_each(|text| check_size(text.len()))?;
        if self.settings.invalid == Invalid::Error {
            for (i, text) in texts.iter().enumerate() {
                if let Err(e) = std::str::from_utf8(text) {
                    let offset = e.valid_up_to();
                    return Err(not_utf8(&format!("documents[{i}]"), text[offset], offset as u64));
                }
            }
        }
        let items: Vec<Item> = texts
            .iter()
            .enumerate()
            .flat_map(|(i, text)| self.parts(text, text.len()).into_iter().map(move |range| Item { text: i, range }))
            .collect();
        self.count(texts, &items, weight, cancel)?;
        if self.settings.documents == Documents::Texts {
            self.totals.documents += texts.len() as u64;
        }
        Ok(())
    }

    /// Counts the next bytes of a document that comes in blocks; all of its blocks have one weight.
    ///
    /// Where its cuts allow it ([`Cutter::streams`], or documents that are lines), the memory this takes does not grow
    /// with the document, but with its longest pretoken or line.
    ///
    /// # Errors
    /// As [`Counter::add`]; `Limit` when more than `Limits.document_bytes` would have to be held.
    pub fn feed(&mut self, block: &[u8], weight: u64, cancel: &Cancel) -> Result<()> {
        self.check(weight)?;
        check_size(block.len().saturating_add(self.open.as_ref().map_or(0, |open| open.held.len())))?;
        let mut open =
            self.open.take().unwrap_or(Open { weight, held: Vec::new(), before: 0, checked: 0, look_at: FEED });
        if open.weight != weight {
            let found = format!("{weight} after {} in the same document", open.weight);
            self.open = Some(open);
            return Err(Error::value("weight", found, "give all blocks of a document one weight"));
        }
        open.held.extend_from_slice(block);
        let done = self.advance(&mut open, cancel);
        self.open = Some(open);
        self.keep(done)
    }

    fn advance(&mut self, open: &mut Open, cancel: &Cancel) -> Result<()> {
        if self.settings.invalid == Invalid::Error {
            open.check_utf8(false)?;
        }
        if open.held.len() < open.look_at {
            return Ok(());
        }
        let end = match self.settings.documents {
            Documents::Lines => memrchr(b'\n', &open.held).map_or(0, |at| at + 1),
            Documents::Texts if self.cutter.streams() => self.cutter.final_prefix(&open.held),
            Documents::Texts => 0,
        };
        self.count_held(open, end, cancel)?;
        self.cutter.check_length(open.held.len(), "what has to be held of a document")?;
        // Twice as much before the next look: a long pretoken is not scanned again and again.
        open.look_at = FEED.max(2 * open.held.len());
        Ok(())
    }

    /// Ends the document that came in blocks; without one, an empty document was counted.
    ///
    /// # Errors
    /// As [`Counter::add`].
    pub fn end_document(&mut self, cancel: &Cancel) -> Result<()> {
        self.check(1)?;
        if let Some(mut open) = self.open.take() {
            let utf8 = if self.settings.invalid == Invalid::Error { open.check_utf8(true) } else { Ok(()) };
            let end = open.held.len();
            let done = utf8.and_then(|()| self.count_held(&mut open, end, cancel));
            self.keep(done)?;
        }
        if self.settings.documents == Documents::Texts {
            self.totals.documents += 1;
        }
        Ok(())
    }

    fn count_held(&mut self, open: &mut Open, end: usize, cancel: &Cancel) -> Result<()> {
        if end == 0 {
            return Ok(());
        }
        let items: Vec<Item> = self.parts(&open.held, end).into_iter().map(|range| Item { text: 0, range }).collect();
        self.count(&[&open.held], &items, open.weight, cancel)?;
        open.held.drain(..end);
        open.before += end as u64;
        open.checked = open.checked.saturating_sub(end);
        Ok(())
    }

    /// The totals so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How many different pretokens are in memory, in how many bytes, and how many runs are in files.
    pub fn usage(&self) -> (usize, usize, usize) {
        let held = self.open.as_ref().map_or(0, |open| open.held.capacity());
        let bytes: usize = self.maps.iter().map(CountMap::bytes_used).sum();
        (self.maps.iter().map(CountMap::len).sum(), bytes + held, self.spill.len())
    }

    /// All counts, sorted; nothing is left in the counter.
    ///
    /// # Errors
    /// `Value` while a document is open, `Storage` when a run cannot be read.
    pub fn finish(&mut self) -> Result<Merge> {
        self.check(1)?;
        if self.open.is_some() {
            return Err(open_document());
        }
        self.is_broken = true; // what is taken out now cannot be added to
        let mut sources = self.spill.take_sources()?;
        let sorted: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = self.maps.iter_mut().map(|map| scope.spawn(|| map.take_sorted())).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        });
        sources.extend(sorted.into_iter().flat_map(Source::of_map));
        Ok(Merge::new(sources))
    }

    fn check(&self, weight: u64) -> Result<()> {
        if self.is_broken {
            let found = "it has been finished, or an error or an interruption left its counts incomplete";
            return Err(Error::value("counter", found, "count again with a new one"));
        }
        if weight == 0 {
            return Err(Error::value("weight", "0", "leave such documents out"));
        }
        Ok(())
    }

    fn keep<T>(&mut self, done: Result<T>) -> Result<T> {
        self.is_broken |= done.is_err();
        done
    }

    /// Parts of `text[..end]` that can be counted apart, of about [`ITEM`] bytes where that can be.
    fn parts(&self, text: &[u8], end: usize) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let (mut start, mut at) = (0, ITEM);
        while at < end {
            let window = at - ITEM.min(at - start)..at;
            let cut = match self.settings.documents {
                Documents::Lines => memrchr(b'\n', &text[window.clone()]).map(|i| window.start + i + 1),
                Documents::Texts => self.cutter.last_seam(text, window),
            };
            if let Some(cut) = cut.filter(|&cut| cut > start) {
                parts.push(start..cut);
                start = cut;
                at = cut;
            }
            at += ITEM;
        }
        if start < end {
            parts.push(start..end);
        }
        parts
    }

    /// Counts items on all threads, each into its own map.
    fn count(&mut self, texts: &[&[u8]], items: &[Item], weight: u64, cancel: &Cancel) -> Result<()> {
        let bytes: usize = items.iter().map(|item| item.range.len()).sum();
        let next = AtomicUsize::new(0);
        // The error of the first item that has one: the same for any number of threads.
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let (cutter, spill, documents) = (&self.cutter, &self.spill, self.settings.documents);
        let work = |map: &mut CountMap| -> (u64, u64) {
            let (mut lines, mut pretokens) = (0, 0);
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(i) else { break };
                let mut sink =
                    CountSink { map, weight, spill, cancel, pretokens: 0, lines: 0, ticks: TICKS, error: None };
                let done = sink.take(cutter, texts[item.text], item.range.clone(), documents);
                pretokens += sink.pretokens;
                lines += sink.lines;
                if let Err(error) = done {
                    next.store(items.len(), Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                        *failed = Some((i, error));
                    }
                    break;
                }
                if cancel.is_cancelled() {
                    break;
                }
            }
            (lines, pretokens)
        };
        let threads = if bytes < ALONE { 1 } else { self.maps.len().min(items.len()).max(1) };
        let (first, others) = self.maps.split_at_mut(1);
        let counted = std::thread::scope(|scope| {
            let workers: Vec<_> = others[..threads - 1].iter_mut().map(|map| scope.spawn(|| work(map))).collect();
            let mut all = vec![work(&mut first[0])];
            all.extend(workers.into_iter().map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))));
            all
        });
        if let Some((item, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.is_broken = true;
            let in_document = error.file().is_none() && error.kind() != ErrorKind::Storage;
            return Err(if in_document { error.in_file(format!("documents[{}]", items[item].text)) } else { error });
        }
        if cancel.is_cancelled() {
            self.is_broken = true;
            return Err(Error::value("counter", "counting was cancelled", ""));
        }
        let lines: u64 = counted.iter().map(|(lines, _)| lines).sum();
        let pretokens: u64 = counted.iter().map(|(_, pretokens)| pretokens).sum();
        let total = pretokens.checked_mul(weight).and_then(|n| n.checked_add(self.totals.pretokens));
        match total {
            Some(total) if !self.maps.iter().any(CountMap::overflowed) => self.totals.pretokens = total,
            _ => {
                self.is_broken = true;
                return Err(overflow());
            }
        }
        self.totals.documents += lines;
        self.totals.bytes += bytes as u64;
        Ok(())
    }
}

impl Open {
    /// Checks what has come since the last look; a character that is not whole yet waits for its rest.
    fn check_utf8(&mut self, is_end: bool) -> Result<()> {
        match std::str::from_utf8(&self.held[self.checked..]) {
            Ok(_) => self.checked = self.held.len(),
            Err(e) => {
                self.checked += e.valid_up_to();
                if is_end || e.error_len().is_some() {
                    return Err(not_utf8("document", self.held[self.checked], self.before + self.checked as u64));
                }
            }
        }
        Ok(())
    }
}

/// A pretoken's length has 32 bits.
fn check_size(bytes: usize) -> Result<()> {
    if u32::try_from(bytes).is_ok() {
        return Ok(());
    }
    let found = format!("{bytes} bytes at once, over 4 GiB");
    Err(Error::new(ErrorKind::Limit, "document", found, "feed the document in blocks"))
}

fn not_utf8(field: &str, byte: u8, offset: u64) -> Error {
    Error::value(
        field,
        format!("not UTF-8: byte 0x{byte:02x} at offset {offset}"),
        "use invalid=\"bytes\" to count such bytes as they are, or invalid=\"skip\" to leave such documents out",
    )
}

fn open_document() -> Error {
    Error::value("counter", "a document that comes in blocks has not been ended", "call end_document first")
}

/// Puts the pretokens of one thread into its map.
struct CountSink<'a> {
    map: &'a mut CountMap,
    weight: u64,
    spill: &'a Spill,
    cancel: &'a Cancel,
    pretokens: u64,
    lines: u64,
    ticks: u32,
    error: Option<Error>,
}

impl CountSink<'_> {
    fn take(&mut self, cutter: &Cutter, text: &[u8], range: Range<usize>, documents: Documents) -> Result<()> {
        match documents {
            Documents::Texts => {
                let _ = cutter.cut(text, range, self)?;
            }
            Documents::Lines => {
                let mut rest = &text[range];
                while !rest.is_empty() {
                    let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                    self.lines += 1;
                    if cutter.cut(&rest[..end], 0..end, self)?.is_break() {
                        break;
                    }
                    rest = &rest[end..];
                }
            }
        }
        self.error.take().map_or(Ok(()), Err)
    }

    #[cold]
    fn empty(&mut self) -> ControlFlow<()> {
        match self.spill.write(self.map) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

impl PieceSink for CountSink<'_> {
    #[inline]
    fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
        self.pretokens += 1;
        if self.map.add(text, range, self.weight) == Room::Full {
            self.empty()?;
        }
        self.ticks -= 1;
        if self.ticks == 0 {
            self.ticks = TICKS;
            if self.cancel.is_cancelled() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
