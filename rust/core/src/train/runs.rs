//! Runs: sorted counts, written out when a map has used up its memory, and read back in blocks.
//!
//! ```text
//! run    := magic version block* end
//! block  := bytes:u32 entries:u32 checksum:u64 entry*       (bytes > 0)
//! end    := 0:u32 0:u32 checksum:u64 entries of the run:u64
//! entry  := shared rest:varint bytes count:varint           (shared with the entry before it in the block: varint)
//! ```
//! All numbers are little-endian; a varint has seven bits a byte, the lowest first. The checksum covers what follows it
//! in the block, so a run that was cut off or damaged is found out when that place is read.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::error::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"avcounts";
const VERSION: u32 = 1;
/// A block is written when it has so many bytes.
pub(super) const BLOCK: usize = 64 << 10;

/// Where a run is kept: a temporary file, or memory.
pub trait RunFile: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> RunFile for T {}

/// Makes places for runs; they are no longer needed when dropped.
pub type MakeFile = Box<dyn Fn() -> io::Result<Box<dyn RunFile>> + Send + Sync>;

/// An I/O error while `doing` something, with a word on a full disk.
pub(super) fn storage(doing: &str, error: &io::Error) -> Error {
    let (found, fix) = match error.kind() {
        io::ErrorKind::StorageFull => {
            (format!("the disk is full (ENOSPC) while {doing}"), "free some space, or choose another spill_folder")
        }
        io::ErrorKind::UnexpectedEof => (format!("the file ends too early while {doing}"), ""),
        _ => (format!("{error} while {doing}"), "check the disk, or choose another spill_folder"),
    };
    Error::new(ErrorKind::Storage, "spill_folder", found, fix)
}

fn damaged(found: &str) -> Error {
    Error::new(
        ErrorKind::Storage,
        "spill_folder",
        format!("a run of counts {found}"),
        "count again: the disk lost data",
    )
}

/// Not a secret: finds accidents. Every word is mixed in by a multiplication, the length at the end.
fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(FACTOR, |state, word| step(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(state, u64::from_le_bytes(last)), bytes.len() as u64)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn get_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Writes a run.
pub(super) struct RunWriter {
    file: Box<dyn RunFile>,
    block: Vec<u8>,
    /// The last entry of the block, with which the next one shares its start.
    last: Vec<u8>,
    block_entries: u32,
    entries: u64,
}

impl RunWriter {
    /// Starts a run in `file`, which is empty.
    ///
    /// # Errors
    /// `Storage` when writing fails, here and below.
    pub(super) fn new(mut file: Box<dyn RunFile>) -> Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        file.write_all(&head).map_err(|e| storage("writing counts", &e))?;
        Ok(Self { file, block: Vec::with_capacity(BLOCK), last: Vec::new(), block_entries: 0, entries: 0 })
    }

    /// Appends an entry; its bytes come after those of the entry before.
    pub(super) fn push(&mut self, bytes: &[u8], count: u64) -> Result<()> {
        let shared = self.last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.block, shared as u64);
        put_varint(&mut self.block, (bytes.len() - shared) as u64);
        self.block.extend_from_slice(&bytes[shared..]);
        put_varint(&mut self.block, count);
        self.last.truncate(shared);
        self.last.extend_from_slice(&bytes[shared..]);
        self.block_entries += 1;
        self.entries += 1;
        if self.block.len() >= BLOCK { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<()> {
        let bytes = u32::try_from(self.block.len())
            .map_err(|_| Error::value("document", "a pretoken of 4 GiB", "use a pattern that cuts"))?;
        let mut head = Vec::with_capacity(16);
        head.extend_from_slice(&bytes.to_le_bytes());
        head.extend_from_slice(&self.block_entries.to_le_bytes());
        head.extend_from_slice(&checksum(&self.block).to_le_bytes());
        self.file
            .write_all(&head)
            .and_then(|()| self.file.write_all(&self.block))
            .map_err(|e| storage("writing counts", &e))?;
        self.block.clear();
        self.last.clear();
        self.block_entries = 0;
        Ok(())
    }

    /// Ends the run and goes back to its start, for reading.
    pub(super) fn finish(mut self) -> Result<Box<dyn RunFile>> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let entries = self.entries.to_le_bytes();
        let mut end = vec![0; 8];
        end.extend_from_slice(&checksum(&entries).to_le_bytes());
        end.extend_from_slice(&entries);
        self.file
            .write_all(&end)
            .and_then(|()| self.file.flush())
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|e| storage("writing counts", &e))?;
        Ok(self.file)
    }
}

/// Reads a run, a block at a time.
pub(super) struct RunReader {
    file: Box<dyn RunFile>,
    block: Vec<u8>,
    at: usize,
    left_in_block: u32,
    entries: u64,
    current: Vec<u8>,
    count: u64,
    ended: bool,
}

impl RunReader {
    /// Opens a run and reads its first entry.
    ///
    /// # Errors
    /// `Storage` for a file that cannot be read, is no run, ends too early or is damaged; so below.
    pub(super) fn new(mut file: Box<dyn RunFile>) -> Result<Self> {
        let mut head = [0; 12];
        file.read_exact(&mut head).map_err(|e| storage("reading counts", &e))?;
        if head[..8] != MAGIC || head[8..] != VERSION.to_le_bytes() {
            return Err(damaged("has a wrong head"));
        }
        let mut reader = Self {
            file,
            block: Vec::new(),
            at: 0,
            left_in_block: 0,
            entries: 0,
            current: Vec::new(),
            count: 0,
            ended: false,
        };
        reader.advance()?;
        Ok(reader)
    }

    /// The entry in hand; `None` behind the last.
    pub(super) fn current(&self) -> Option<(&[u8], u64)> {
        (!self.ended).then_some((self.current.as_slice(), self.count))
    }

    /// Goes to the next entry.
    pub(super) fn advance(&mut self) -> Result<()> {
        if self.left_in_block == 0 && !self.next_block()? {
            self.ended = true;
            return Ok(());
        }
        let mut rest = &self.block[self.at..];
        let read = (|| {
            let shared = usize::try_from(get_varint(&mut rest)?).ok()?;
            let length = usize::try_from(get_varint(&mut rest)?).ok()?;
            let suffix = rest.get(..length)?;
            rest = &rest[length..];
            let count = get_varint(&mut rest)?;
            (shared <= self.current.len()).then_some((shared, suffix, count))
        })();
        let Some((shared, suffix, count)) = read else {
            return Err(damaged("has an entry that cannot be read"));
        };
        self.current.truncate(shared);
        self.current.extend_from_slice(suffix);
        self.count = count;
        self.at = self.block.len() - rest.len();
        self.left_in_block -= 1;
        self.entries += 1;
        Ok(())
    }

    /// Reads the next block; `false` at the end of the run.
    fn next_block(&mut self) -> Result<bool> {
        let mut head = [0; 16];
        self.file.read_exact(&mut head).map_err(|e| storage("reading counts", &e))?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (bytes, entries) = (word(0), word(4));
        let sum = u64::from(word(8)) | (u64::from(word(12)) << 32);
        self.block.clear();
        let length = if bytes == 0 { 8 } else { u64::from(bytes) };
        // Grows with what there is: a damaged length does not allocate.
        let read = (&mut self.file).take(length).read_to_end(&mut self.block);
        if read.map_err(|e| storage("reading counts", &e))? as u64 != length {
            return Err(damaged("ends too early"));
        }
        if checksum(&self.block) != sum {
            return Err(damaged("is damaged: a checksum differs"));
        }
        self.at = 0;
        self.current.clear();
        self.left_in_block = entries;
        if (bytes > 0) != (entries > 0) {
            return Err(damaged("has a block without entries, or entries without a block"));
        }
        if bytes > 0 {
            return Ok(true);
        }
        if self.block != self.entries.to_le_bytes() {
            return Err(damaged("lacks entries"));
        }
        Ok(false)
    }
}
