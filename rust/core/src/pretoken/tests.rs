use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::known::spellings;
use super::reference::Reference;
use super::*;
use crate::formats::description::{Pattern, PreTokenizer, SplitBehavior};

struct Cut<'t>(&'t [u8]);

impl ScannerVisitor<Vec<Range<usize>>> for Cut<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut pos = 0;
        while pos < self.0.len() {
            let end = scanner.next(self.0, pos);
            let (same, reach) = scanner.next_with_reach(self.0, pos);
            assert_eq!(end, same);
            assert!(end > pos && end <= self.0.len() && reach >= end && reach <= self.0.len() + 1);
            pieces.push(pos..end);
            pos = end;
        }
        let ends: Vec<usize> = scanner.pieces(self.0).collect();
        let known: Vec<usize> = pieces.iter().map(|p| p.end).collect();
        assert_eq!(ends, known, "{:?}", String::from_utf8_lossy(self.0));
        pieces
    }
}

/// The pieces up to the first that is not final, and that one's start.
struct Final<'t>(&'t [u8]);

impl ScannerVisitor<Vec<Range<usize>>> for Final<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut pos = 0;
        while pos < self.0.len() {
            let (end, reach) = scanner.next_with_reach(self.0, pos);
            if reach > self.0.len() {
                break;
            }
            pieces.push(pos..end);
            pos = end;
        }
        pieces
    }
}

/// Number of pieces, with the scanner of a known.
struct Count<'t>(&'t [u8]);

impl ScannerVisitor<usize> for Count<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> usize {
        let (mut n, mut pos) = (0, 0);
        while pos < self.0.len() {
            pos = scanner.next(self.0, pos);
            n += 1;
        }
        let start = &self.0[..self.0.len().min(1 << 20)];
        assert!(scanner.pieces(start).last() == Some(start.len()));
        n
    }
}

pub(super) fn show(text: &[u8], pieces: &[Range<usize>]) -> Vec<String> {
    pieces.iter().map(|p| text[p.clone()].escape_ascii().to_string()).collect()
}

fn agree(text: &[u8]) {
    static REFERENCES: LazyLock<Vec<Reference>> = LazyLock::new(|| Known::ALL.map(Reference::of).into());
    for (known, reference) in Known::ALL.into_iter().zip(&*REFERENCES) {
        let scanned = with_scanner(known, Cut(text));
        let defined = reference.pieces(text);
        assert!(
            scanned == defined,
            "{known:?} on {:?}\nscanner:   {:?}\nreference: {:?}",
            String::from_utf8_lossy(text),
            show(text, &scanned),
            show(text, &defined)
        );
    }
}

/// Pieces of text that patterns treat apart.
pub(super) const ATOMS: &[&str] = &[
    "a",
    "b",
    "s",
    "t",
    "e",
    "l",
    "the",
    "word",
    "S",
    "T",
    "LL",
    "Re",
    "ABC",
    "Dž",
    "ž",
    "İ",
    "ſ",
    "\u{212A}",
    "é",
    "É",
    "ß",
    "ª",
    "ʰ",
    "漢",
    "字",
    "一",
    "龥",
    "〇",
    "々",
    "⺀",
    "か",
    "ー",
    "・",
    "ヿ",
    "\u{3040}",
    "\u{3099}",
    "\u{30A0}",
    "한",
    "א",
    "ש",
    "ا",
    "۔",
    "،",
    "अ",
    "।",
    "ि",
    "१",
    "0",
    "1",
    "9",
    "123",
    "½",
    "²",
    "Ⅷ",
    "٣",
    "\u{11DE1}",
    "\u{16FF4}",
    "'",
    "'s",
    "'S",
    "'ll",
    "'LL",
    "'rE",
    "'ve",
    "'ſ",
    "'m",
    "'d",
    "''",
    "’",
    "\u{0301}",
    "\u{0300}\u{0302}",
    "\u{20DD}",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\u{0B}",
    "\u{0C}",
    "\u{85}",
    "\u{A0}",
    "\u{1680}",
    "\u{2003}",
    "\u{2028}",
    "\u{2029}",
    "\u{202F}",
    "\u{3000}",
    "\u{200B}",
    "\u{200D}",
    "\u{FEFF}",
    "\u{AD}",
    "\u{0}",
    "\u{7F}",
    "\u{E000}",
    "\u{378}",
    "\u{10FFFF}",
    ".",
    ",",
    "!",
    "?",
    "(",
    ")",
    "|",
    "/",
    "//",
    "_",
    "-",
    "#",
    "$",
    "+",
    "=",
    "<",
    "~",
    "^",
    "`",
    "…",
    "。",
    "，",
    "、",
    "！",
    "«",
    "€",
    "😀",
    "👩\u{200D}👩",
    "🇩🇪",
    "\u{1F1E6}",
    "𝔸",
    "𠀀",
    "𐐀",
    "𐐨",
    "\u{16FF0}",
];

/// Bytes that belong to no character.
pub(super) const MALFORMED: &[&[u8]] = &[
    b"\x80",
    b"\xFF",
    b"\xC3",
    b"\xC0\xAF",
    b"\xE2\x82",
    b"\xE2",
    b"\xED\xA0\x80",
    b"\xF0\x9F\x98",
    b"\xF0\x9F",
    b"\xF5\x80",
    b"\xC5",
    b"\xF4\x90\x80\x80",
];

fn atom() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => proptest::sample::select(ATOMS).prop_map(|s| s.as_bytes().to_vec()),
        3 => "[a-zA-Z]{1,12}".prop_map(String::into_bytes),
        2 => "[ ]{1,4}".prop_map(String::into_bytes),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        1 => proptest::sample::select(MALFORMED).prop_map(<[u8]>::to_vec),
    ]
}

/// ASCII in the proportions of prose and code, long enough for whole blocks.
fn ascii_text() -> impl Strategy<Value = Vec<u8>> {
    let atom = prop_oneof![
        6 => "[a-z]{1,9}",
        2 => "[A-Z]{1,3}[a-z]{0,5}",
        8 => Just(" ".to_owned()),
        2 => "[ \t\n\r]{1,6}",
        2 => "[!-/:-@\\[-`{-~]{1,3}",
        2 => "'(s|S|t|d|m|ll|LL|lL|re|Ve|vE|x|r|l)",
        1 => "[0-9]{1,8}",
        1 => "[\x00-\x7F]",
        1 => "[./\n'!]{1,5}",
        1 => "(é|漢|ſ|\u{301}|\u{3000}|😀)",
    ];
    proptest::collection::vec(atom, 30..120).prop_map(|atoms| atoms.concat().into_bytes())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(atom(), 0..24).prop_map(|atoms| atoms.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3000), ..ProptestConfig::default() })]

    #[test]
    fn every_scanner_cuts_as_its_pattern_does(text in text()) {
        agree(&text);
    }

    #[test]
    fn ascii_is_cut_as_the_patterns_do(text in ascii_text()) {
        agree(&text);
    }

    #[test]
    fn a_final_piece_stays_whatever_is_appended(text in text(), more in text()) {
        let longer = [text.as_slice(), &more].concat();
        for known in Known::ALL {
            let done = with_scanner(known, Final(&text));
            let all = with_scanner(known, Cut(&longer));
            prop_assert!(all.starts_with(&done), "{known:?} {:?} + {:?}", text.escape_ascii().to_string(), more.escape_ascii().to_string());
        }
    }
}

#[test]
fn every_pair_and_triple_of_atoms_is_cut_as_the_pattern_does() {
    let mut pool: Vec<&[u8]> = ATOMS.iter().map(|s| s.as_bytes()).chain(MALFORMED.iter().copied()).collect();
    pool.dedup();
    // One long text per first atom: pieces are local, so neighbours do not hide one another for long.
    for &a in &pool {
        let mut text = Vec::new();
        for &b in &pool {
            text.extend([a, b, b"x ", b, a, b" ", a, b" ", b, b"\n"].concat());
        }
        agree(&text);
    }
}

#[test]
fn ascii_classes_equal_the_tables() {
    for (pattern, class) in [
        (r"\p{Lu}|\p{Lt}", classes::UPPER),
        (r"\p{Ll}", classes::LOWER),
        (r"\p{M}", classes::MARK),
        (r"\p{N}", classes::NUMBER),
        (r"\p{P}", classes::PUNCT),
        (r"\p{S}", classes::SYMBOL),
        (r"\s", classes::SPACE),
        (r"[\r\n]", classes::NEWLINE),
    ] {
        let ranges = classes::class_ranges(pattern);
        for b in 0..128u32 {
            let inside = ranges.iter().any(|&(first, last)| (first..=last).contains(&b));
            assert_eq!(inside, classes::ASCII[b as usize] & class != 0, "{b:#x} in {pattern}");
        }
    }
}

#[test]
fn every_code_point_has_exactly_one_kind() {
    use classes::*;
    let table = Classes::get();
    for c in (0..=0x10FFFF).filter_map(char::from_u32) {
        let kinds = [UPPER, LOWER, CASELESS, MARK, NUMBER, SPACE, PUNCT, SYMBOL, LATER_NUMBER, OTHER];
        let class = table.of(u32::from(c));
        assert_eq!(kinds.iter().filter(|&&k| class & k != 0).count(), 1, "{c:?}");
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        assert_eq!(table.at(bytes, 0), (class, bytes.len()));
        for cut in 1..bytes.len() {
            assert_eq!(table.at(&bytes[..cut], 0), (0, 1));
        }
    }
}

fn fixtures() -> Option<PathBuf> {
    let root = std::env::var_os("ANYVOCAB_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")), PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("skipped: no folder of fixtures (ANYVOCAB_FIXTURES)");
    None
}

#[test]
fn real_texts_are_cut_as_the_pattern_does() {
    let Some(root) = fixtures() else { return };
    let mut files = vec![
        root.join("vectors/kitoken/utf8_input.txt"),
        root.join("vectors/kitoken/mixed_input.txt"),
        root.join("vectors/llamacpp/llama3.inp"),
        root.join("text/books/wagahai_ja.txt"),
        root.join("text/books/sherlock_en.txt"),
    ];
    let mut udhr: Vec<_> =
        std::fs::read_dir(root.join("text/udhr")).expect("the folder exists").flatten().map(|e| e.path()).collect();
    udhr.sort();
    files.extend(udhr);
    for file in files {
        let Ok(bytes) = std::fs::read(&file) else {
            eprintln!("skipped: no {}", file.display());
            continue;
        };
        agree(&bytes[..bytes.len().min(120_000)]);
    }
}

#[test]
fn long_runs_of_anything_are_cut_in_linear_time() {
    let n = 10 << 20;
    for unit in [
        "a",
        "A",
        " ",
        "\n",
        "\r\n",
        " \n",
        "\t ",
        "1",
        "!",
        "'",
        "é",
        "\u{0301}",
        "A\u{0301}",
        "漢",
        "\u{3000}",
        "/",
        "'s",
        " !",
        "\u{200D}",
    ] {
        let text = unit.as_bytes().repeat(n / unit.len());
        for known in Known::ALL {
            let start = std::time::Instant::now();
            assert!(with_scanner(known, Count(&text)) > 0);
            assert!(start.elapsed().as_secs() < 20, "{known:?} on {unit:?} took {:?}", start.elapsed());
        }
    }
    let text = b"\xFF".repeat(n);
    for known in Known::ALL {
        assert_eq!(with_scanner(known, Count(&text)), 1);
    }
}

fn split(pattern: &str) -> PreTokenizer {
    PreTokenizer::Split { pattern: Pattern::Regex(pattern.into()), behavior: SplitBehavior::Isolated, invert: false }
}

fn bytes(use_regex: bool) -> PreTokenizer {
    PreTokenizer::ByteLevel { add_prefix_space: false, use_regex, trim_offsets: true }
}

#[test]
fn trees_of_published_tokenizers_are_recognised() {
    let sequence = PreTokenizer::Sequence;
    let digits = || PreTokenizer::Digits { individual_digits: true };
    assert_eq!(recognise(&bytes(true)), Some(Known::Gpt2));
    assert_eq!(recognise(&bytes(false)), None);
    assert_eq!(recognise(&sequence(vec![digits(), bytes(true)])), Some(Known::DigitsGpt2));
    assert_eq!(recognise(&sequence(vec![split(spellings::CL100K), bytes(false)])), Some(Known::Cl100k));
    assert_eq!(recognise(&sequence(vec![sequence(vec![split(spellings::QWEN2)]), bytes(false)])), Some(Known::Qwen2));
    assert_eq!(recognise(&sequence(vec![split(spellings::CL100K), bytes(true)])), None);
    let coder = spellings::DEEPSEEK_CODER.map(split).into_iter().chain([digits(), bytes(false)]).collect();
    assert_eq!(recognise(&sequence(coder)), Some(Known::DeepSeekCoder));
    let v3 = spellings::DEEPSEEK_V3
        .map(split)
        .into_iter()
        .chain([split(spellings::DEEPSEEK_V3_TEXT), bytes(false)])
        .collect();
    assert_eq!(recognise(&sequence(v3)), Some(Known::DeepSeekV3));
    let removed = PreTokenizer::Split {
        pattern: Pattern::Regex(spellings::CL100K.into()),
        behavior: SplitBehavior::Removed,
        invert: true,
    };
    assert_eq!(recognise(&removed), None);
}

#[test]
fn every_spelling_of_a_pattern_cuts_as_its_scanner_does() {
    let mut text: Vec<u8> = Vec::new();
    for (i, a) in ATOMS.iter().enumerate() {
        for b in ATOMS.iter().skip(i % 7).step_by(7) {
            text.extend([*a, *b, " ", *b, *a].concat().bytes());
        }
    }
    text.extend(b"end \n  ");
    for (spelling, known, flavours) in spellings::all() {
        if flavours.contains(&Flavour::FancyRegex) {
            let defined = Reference::new(&[spelling.to_owned()]).pieces(&text);
            assert!(with_scanner(known, Cut(&text)) == defined, "{spelling}");
        }
    }
}

pub(super) fn golden() -> toml::Table {
    include_str!("../../../../tests/golden/splits.toml").parse().expect("the golden file is TOML")
}

pub(super) fn strings(value: &toml::Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

#[test]
fn scanners_cut_as_the_originals_do() {
    let golden = golden();
    let texts = strings(&golden["texts"]);
    for case in golden["known"].as_array().into_iter().flatten() {
        let name = case["name"].as_str().expect("a name");
        let known = Known::ALL.into_iter().find(|k| format!("{k:?}") == name).expect("a scanner of that name");
        let ends = strings(&case["ends"]);
        assert_eq!(ends.len(), texts.len());
        for (text, ends) in texts.iter().zip(ends) {
            let cut = with_scanner(known, Cut(text.as_bytes()));
            let cut: Vec<String> = cut.iter().map(|p| p.end.to_string()).collect();
            assert_eq!(cut.join(" "), ends, "{name} ({}) on {text:?}", case["oracle"]);
        }
    }
}
