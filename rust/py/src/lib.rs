//! The extension module `anyvocab._core`: extract, detach, convert. No algorithm lives here.

mod counting;
mod cover;
mod door;
mod dynamic;
mod error;
mod incremental;
mod sampler;
mod superwords;
mod tokenizer;
mod training;
mod vocabulary;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::counting::{CountBatches, Counter, merge_counts, pattern_names};
    #[pymodule_export]
    use crate::cover::{CoverModel, CoverState, Sweep};
    #[pymodule_export]
    use crate::dynamic::{DynamicMerged, DynamicMerger, LzwDecoder, LzwEncoder};
    #[pymodule_export]
    use crate::incremental::IncrementalEncoder;
    #[pymodule_export]
    use crate::sampler::{SampledTokenizer, TokenizerSampler};
    #[pymodule_export]
    use crate::superwords::{BoundlessEncoder, Sequences};
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;
    #[pymodule_export]
    use crate::training::{
        TrainProgress, Veto, bpe_json, cuts_of, extend_words, extended_json, train_parity, train_sequences, train_words,
    };
    #[pymodule_export]
    use crate::vocabulary::Vocabulary;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::error::register(module)
    }
}
