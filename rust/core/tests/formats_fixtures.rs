//! Real files: they load, and what is written of them loads as the same tokenizer.

use std::path::PathBuf;

use anyvocab_core::formats::{Description, Model, Spellings, Symbols, rwkv, tiktoken, tokenizer_json, writer};
use anyvocab_core::{ErrorKind, Limits};

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("ANYVOCAB_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no fixtures in {} (set ANYVOCAB_FIXTURES)", folder.display());
    None
}

fn tokenizer_files() -> Vec<PathBuf> {
    let Some(folder) = fixtures() else { return Vec::new() };
    let mut files: Vec<PathBuf> = ["tokenizers", "models"]
        .iter()
        .filter_map(|kind| std::fs::read_dir(folder.join(kind)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("tokenizer.json")))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files
}

fn spellings(model: &Model) -> &Spellings {
    match model {
        Model::Bpe(m) => &m.vocab,
        Model::Unigram(m) => &m.vocab,
        Model::WordPiece(m) => &m.vocab,
        Model::WordLevel(m) => &m.vocab,
        Model::Trie(m) => &m.vocab,
    }
}

/// Everything but the order of the vocabulary, as text; the vocabulary by id.
fn summary(d: &Description) -> (String, Vec<(u32, Vec<u8>)>) {
    let mut vocab: Vec<(u32, Vec<u8>)> = spellings(&d.model).iter().map(|(s, id)| (id, s.to_vec())).collect();
    vocab.sort();
    let model = match &d.model {
        Model::Bpe(m) => format!(
            "{:?} {:?} {:?} {} {} {} {} {}",
            m.merges,
            m.symbols,
            m.unk,
            m.fuse_unk,
            m.byte_fallback,
            m.ignore_merges,
            m.continuing_subword_prefix,
            m.end_of_word_suffix
        ),
        Model::Unigram(m) => format!("{:?} {:?} {}", m.scores, m.unk, m.byte_fallback),
        Model::WordPiece(m) => {
            format!("{:?} {} {}", m.unk, m.continuing_subword_prefix, m.max_input_chars_per_word)
        }
        Model::WordLevel(m) => format!("{:?}", m.unk),
        Model::Trie(_) => String::new(),
    };
    let mut added = d.added_tokens.clone();
    added.sort_by_key(|t| t.id);
    let rest =
        format!("{model} {added:?} {:?} {:?} {:?} {:?}", d.normalizer, d.pre_tokenizer, d.post_processor, d.decoder);
    (rest, vocab)
}

#[test]
fn every_tokenizer_json_comes_back_as_it_was() {
    for file in tokenizer_files() {
        let name = file.display();
        let data = std::fs::read(&file).expect("readable");
        let first = tokenizer_json::read(&data, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = writer::to_tokenizer_json(&first).unwrap_or_else(|e| panic!("{name}: {e}"));
        let second = tokenizer_json::read(&written, &Limits::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(summary(&first) == summary(&second), "{name}");
        let again = writer::to_tokenizer_json(&second).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(written == again, "{name}: written twice, two files");
    }
}

#[test]
fn every_rank_file_becomes_a_tokenizer_json_with_its_ids() {
    let Some(folder) = fixtures() else { return };
    for (file, encoding, tokens) in [
        ("r50k_gpt2", "r50k_base", 50256),
        ("cl100k_base", "cl100k_base", 100_256),
        ("o200k_base", "o200k_base", 199_998),
        ("o200k_base", "o200k_harmony", 199_998),
    ] {
        let data = std::fs::read(folder.join(format!("tiktoken/{file}.tiktoken"))).expect("a fixture");
        let (pattern, specials) = tiktoken::known(encoding).expect("a known name");
        let ranks = tiktoken::read(&data, pattern, &specials, &Limits::default()).expect("a valid file");
        assert_eq!(spellings(&ranks.model).len(), tokens);
        let written = writer::to_tokenizer_json(&ranks).expect("every part is a stock one");
        let read = tokenizer_json::read(&written, &Limits::default()).expect("a valid file");
        let ids = |d: &Description| -> Vec<(u32, String)> {
            d.added_tokens.iter().map(|t| (t.id, t.content.clone())).collect()
        };
        assert_eq!(ids(&read), ids(&ranks), "{encoding}");
        let (Model::Bpe(json), Model::Bpe(raw)) = (&read.model, &ranks.model) else { panic!("BPE models") };
        assert_eq!((json.symbols, raw.symbols), (Symbols::Chars, Symbols::RawBytes));
        assert!(json.ignore_merges && json.merges.len() < raw.merges.len());
    }
}

#[test]
fn the_rwkv_world_vocabulary_loads_and_has_no_tokenizer_json() {
    let Some(folder) = fixtures() else { return };
    let data = std::fs::read(folder.join("rwkv/rwkv_vocab_v20230424.txt")).expect("a fixture");
    let world = rwkv::read(&data, &Limits::default()).expect("a valid file");
    let vocab = spellings(&world.model);
    assert_eq!(vocab.len(), 65_529);
    assert_eq!((vocab.ids.first(), vocab.ids.last()), (Some(&1), Some(&65_529)));
    assert_eq!(vocab.get(256), b"\t\t");
    assert_eq!(vocab.get(65_528), [b' '; 128]);
    let error = writer::to_tokenizer_json(&world).expect_err("no stock model");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
