//! Published vocabularies.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::formats::sentencepiece;

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("ANYVOCAB_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no fixtures in {} (set ANYVOCAB_FIXTURES)", folder.display());
    None
}

fn load(path: &Path) -> Description {
    let data = std::fs::read(path).expect("a file of the fixtures");
    let limits = Limits::default();
    match path.extension().and_then(|end| end.to_str()) {
        Some("json") => tokenizer_json::read(&data, &limits),
        Some("model") => sentencepiece::read(&data, &limits),
        _ => rwkv::read(&data, &limits),
    }
    .expect("a sound file")
}

/// Published vocabularies whose canonical test is exact, and those whose texts are encoded again.
const EXACT: &[&str] = &[
    "tokenizers/gpt2/tokenizer.json",
    "tokenizers/gpt_neox/tokenizer.json",
    "tokenizers/starcoder/tokenizer.json",
    "tokenizers/deepseek_coder/tokenizer.json",
    "tokenizers/llama3/tokenizer.json",
    "tokenizers/qwen2/tokenizer.json",
    "tokenizers/superbpe_180k_200k/tokenizer.json",
    "tokenizers/llama2/tokenizer.json",
    "tokenizers/mistral01/tokenizer.json",
    "sentencepiece/llama2.model",
    "sentencepiece/mistral01.model",
    "models/aidreams260K/tokenizer.json",
    "rwkv/rwkv_vocab_v20230424.txt",
    "sentencepiece/fineweb_8192_bpe.model",
    "sentencepiece/sp_test_1000.model",
    "models/babyllama105/tokenizer.json",
    "models/stories260K/tokenizer.json",
    "models/stories260K/tokenizer.model",
    "sentencepiece/t5_base.model",
];
const REENCODED: &[&str] = &[
    "tokenizers/bert_uncased/tokenizer.json",
    "tokenizers/clip/tokenizer.json",
    "tokenizers/t5/tokenizer.json",
    "tokenizers/xlmr/tokenizer.json",
    "tokenizers/xlnet/tokenizer.json",
    "sentencepiece/xlnet.model",
];

fn model_of(path: &Path) -> Option<(Arc<Encoder>, Arc<CoverModel>)> {
    let encoder = Arc::new(Encoder::new(Arc::new(load(path)), &Limits::default()).ok()?);
    let rows = encoder.vocabulary().ok()?.len();
    let start = Instant::now();
    let model = CoverModel::new(&encoder, rows, Law::Local, &[], &Limits::default()).ok()?;
    eprintln!("{}: {rows} rows in {:?}: {:?}", path.display(), start.elapsed(), model.exactness());
    Some((encoder, Arc::new(model)))
}

fn texts(folder: &Path, random: &mut Random) -> Vec<String> {
    let read = |name: &str| {
        let text = std::fs::read(folder.join("text").join(name)).expect("a text of the fixtures");
        String::from_utf8_lossy(&text).into_owned()
    };
    let mut texts = Vec::new();
    for name in ["stories/tinystories_sample.txt", "books/wagahai_ja.txt", "udhr/arb.txt"] {
        let all: Vec<char> = read(name).chars().collect();
        let from = random.below(all.len() - 200);
        texts.push(all[from..from + 150].iter().collect());
    }
    // Of characters that small vocabularies have, as their normalizers leave them.
    texts.push("once upon a time there was a little girl who liked to play".into());
    texts.push("def f(x):\n    if x  ==\t12345:\n        return [\"it's\", 'they\\'ll', 3.14]\n\n\n  # ...\r\n".into());
    let ranges = [0x20..0x7F, 0x20..0x7F, 0x09..0x0E, 0xA0..0x180, 0x300..0x370, 0x4E00..0x4E80, 0x1F600..0x1F650];
    for _ in 0..4 {
        let char = |_| {
            let range: &std::ops::Range<u32> = &ranges[random.below(ranges.len())];
            let width = usize::try_from(range.end - range.start).expect("small");
            let code = range.start + u32::try_from(random.below(width)).expect("small");
            char::from_u32(code).expect("no surrogate")
        };
        texts.push((0..60).map(char).collect());
    }
    texts
}

/// Texts that make a prefix go on in most of the ways there are.
fn endings() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = ["", " ", "a", "s", "\n", "0", ".", "'", "é", "中", "e", "A", "/", "\t", "\u{301}"]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    all.extend(
        ["  a", " a", "ll", "re", "ing", "\n\n", "00", "000", "!!", "\r", "  ", "\na"].map(|t| t.as_bytes().to_vec()),
    );
    all
}

struct Walk<'f> {
    name: &'f str,
    encoder: &'f Encoder,
    model: &'f Arc<CoverModel>,
    lead: Lead,
}

impl Walk<'_> {
    fn encode(&self, text: &[u8]) -> Vec<TokenId> {
        let own = match (self.lead, text) {
            (Lead::Always, [b' ', rest @ ..]) => rest,
            _ => text,
        };
        self.encoder.encode(own, Specials::Text, Template::Without).expect("a text")
    }

    fn bytes(&self, ids: &[TokenId]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.model.bytes_of(id)).copied().collect()
    }

    /// The encoding's contexts are among those that are alive where they end, and the text may end behind the last.
    fn follows(&self, text: &str) -> usize {
        let mut state = CoverState::new(self.model, true);
        let lead = state.text.len();
        let text = [&state.text[..], text.as_bytes()].concat();
        // What the normalizer changes is no text of the model's.
        let ids = self.encode(&text);
        if self.bytes(&ids) != text {
            return 0;
        }
        let mut at = 0;
        let mut contexts = 0;
        for (count, id) in (1..).zip(&ids) {
            let end = at + self.model.bytes_of(*id).len();
            for &byte in &text[at.max(lead)..end.max(lead)] {
                state.push(&[byte]);
                contexts += state.alive.iter().filter(|alive| alive.depth == 0).count();
                assert!(
                    state.alive.len() <= 40,
                    "{}: {:?} in {:?}",
                    self.name,
                    state.alive.iter().map(|one| (one.depth, one.node.tokens())).collect::<Vec<_>>(),
                    String::from_utf8_lossy(&text)
                );
            }
            at = end;
            let here: Vec<_> =
                state.alive.iter().filter(|alive| alive.depth == 0).map(|one| one.node.tokens()).collect();
            let shown = || format!("{}: token {count} of {ids:?} in {:?}", self.name, String::from_utf8_lossy(&text));
            assert!(at <= lead || here.contains(&ids[..count].to_vec()), "no context {}", shown());
            let node = node_of(self.model, &ids[..count]).unwrap_or_else(|| panic!("no node {}", shown()));
            let parent = node.parent().expect("a token lies behind it");
            let place = self.model.index().place(*id).expect("a token of the text");
            // A mask nobody asked for before takes a millisecond or two.
            if count % 3 == 1 {
                assert!(self.model.mask(parent).is_none_or(|mask| mask.get(place)), "not in the mask: {}", shown());
            }
        }
        let node = node_of(self.model, &ids).expect("all tokens follow");
        assert!(self.model.ends(&node) || node.blank, "{}: the text ends here: {ids:?}", self.name);
        contexts
    }

    /// A mask is the tokens that some ending lets follow, as far as whole characters go.
    fn masks(&self, text: &str, random: &mut Random) {
        let lead: &[u8] = if self.lead == Lead::None { b"" } else { b" " };
        let text = [lead, text.as_bytes()].concat();
        let ids = self.encode(&text);
        if self.bytes(&ids) != text || ids.is_empty() {
            return;
        }
        let ids = &ids[..1 + random.below(ids.len())];
        let node = node_of(self.model, ids).expect("the encoding's own tokens");
        let (text, index) = (self.bytes(ids), self.model.index());
        let Some(mask) = self.model.mask(&node) else { return };
        let len = usize::try_from(index.root().hi).expect("places");
        for _ in 0..80 {
            let place = u32::try_from(random.below(len)).expect("a place");
            let longer = [&text[..], index.token(place)].concat();
            let wanted = [ids, &[index.id(place)]].concat();
            let found =
                endings().iter().any(|ending| self.encode(&[&longer[..], ending].concat()).starts_with(&wanted));
            let shown = || format!("{}: {:?} behind {ids:?}", self.name, String::from_utf8_lossy(index.token(place)));
            assert_eq!(self.model.child(&node, index.id(place)).is_some(), mask.get(place), "{}", shown());
            assert!(mask.get(place) || !found, "missed: {}", shown());
            let whole = std::str::from_utf8(&longer).is_ok();
            assert!(!mask.get(place) || found || !whole, "too many: {}", shown());
        }
    }
}

#[test]
fn published_encodings_are_among_the_contexts() {
    let Some(folder) = fixtures() else { return };
    let mut encoded_again = Vec::new();
    for name in EXACT {
        let path = folder.join(name);
        let (encoder, model) = model_of(&path).unwrap_or_else(|| panic!("{name} is a tokenizer"));
        if *model.exactness() != Exactness::Exact {
            encoded_again.push((name, model.exactness().clone()));
            continue;
        }
        let lead = match (model.root(true).lead, encoder.encode(b"  a", Specials::Text, Template::Without)) {
            (false, _) => Lead::None,
            (true, Ok(ids)) if ids == encoder.encode(b" a", Specials::Text, Template::Without).expect("a text") => {
                Lead::UnlessThere
            }
            (true, _) => {
                let same = encoder.encode(b"a", Specials::Text, Template::Without).expect("a text")
                    == encoder.encode(b" a", Specials::Text, Template::Without).expect("a text");
                if same { Lead::UnlessThere } else { Lead::Always }
            }
        };
        let walk = Walk { name, encoder: &encoder, model: &model, lead };
        let mut random = Random(0xF1C5);
        let texts = texts(&folder, &mut random);
        let (mut contexts, mut bytes) = (0, 0);
        for text in &texts {
            let found = walk.follows(text);
            if found > 0 {
                contexts += found;
                bytes += text.len();
            }
        }
        for text in texts.iter().step_by(2) {
            walk.masks(text, &mut random);
        }
        eprintln!("{name}: {contexts} contexts for {bytes} bytes");
        assert!(contexts > 0, "{name}: no text is looked at");
        assert!(contexts <= 2 * bytes, "{name}: {contexts} contexts for {bytes} bytes");
    }
    assert_eq!(encoded_again, []);
}

#[test]
fn tokenizers_without_a_streaming_form_say_so() {
    let Some(folder) = fixtures() else { return };
    let is_exact =
        |name: &&&str| model_of(&folder.join(name)).is_some_and(|(_, model)| *model.exactness() == Exactness::Exact);
    assert_eq!(REENCODED.iter().filter(is_exact).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// What it costs at 128,000 tokens; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn costs_at_128_thousand_tokens() {
    let Some(folder) = fixtures() else { return };
    for name in [
        "tokenizers/llama3/tokenizer.json",
        "tokenizers/qwen2/tokenizer.json",
        "rwkv/rwkv_vocab_v20230424.txt",
        "sentencepiece/t5_base.model",
    ] {
        let (encoder, model) = model_of(&folder.join(name)).expect("a tokenizer");
        let text = std::fs::read(folder.join("text/books/sherlock_en.txt")).expect("a text");
        // One space between words: T5's normalizer takes more away.
        let words: Vec<&[u8]> =
            text[20_000..24_500].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let text = &words.join(&b' ')[..4000];
        let start = Instant::now();
        let mut state = CoverState::new(&model, true);
        text.iter().for_each(|byte| state.push(&[*byte]));
        eprintln!("push: {:?} per byte", start.elapsed() / 4000);
        let nodes: Vec<_> =
            state.alive.iter().flat_map(|alive| alive.node.path().cloned().collect::<Vec<_>>()).collect();
        for round in ["cold", "warm"] {
            let start = Instant::now();
            nodes.iter().for_each(|node| drop(model.mask(node)));
            eprintln!("mask, {round}: {:?} each of {}", start.elapsed() / nodes.len() as u32, nodes.len());
        }
        let fake = Fake { rows: encoder.vocabulary().expect("it has one").len(), seed: 5, spread: 3.0, never: 0 };
        let logits = fake.logits(&[]);
        let mut state = CoverState::new(&model, true);
        state.push(&text[..200]);
        let needed = state.needed(false);
        let start = Instant::now();
        needed.ids.iter().for_each(|&id| state.feed(id, Logits::F32(&logits)).expect("wanted"));
        eprintln!("feed: {:?} each of {}", start.elapsed() / needed.ids.len() as u32, needed.ids.len());
    }
}
