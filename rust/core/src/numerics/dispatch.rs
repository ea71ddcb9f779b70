//! Runs a kernel with the best instructions that this machine has.
//!
//! Wheels are built for the least x86-64, which has two lanes of f64 and no fused product. The `unsafe` blocks are the
//! promise that the machine has more, asked of it before. Measured on a busy machine (Xeon, Sapphire Rapids) with the
//! 128,256 rows of Llama 3 in f32, least milliseconds of `root_sums` without a mask and with one of 19 in 20, where a
//! first draft with the standard library's exponential took 0.84 (`examples/index_speed.rs` measures the same):
//!
//! | | all | masked |
//! |---|---|---|
//! | portable | 0.64 | 0.74 |
//! | AVX2 | 0.23 | 0.26 |
//! | AVX-512 | 0.15 | 0.16 |

use super::Kernel;

/// A set of instructions to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// What every machine of this architecture has.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// The best path of this machine.
    #[inline]
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Self::Avx512 } else { Self::Avx2 };
        }
        Self::Portable
    }

    /// Every path that this machine can take.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let best = Self::best();
        match best {
            Self::Portable => vec![best],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => vec![Self::Portable, best],
            // A machine that has the wider one has the other.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => vec![Self::Portable, Self::Avx2, best],
        }
    }
}

/// Runs `kernel` on the best path of this machine.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_on(Path::best(), kernel)
}

/// Runs `kernel` on `path`; on the portable one where the machine has no other.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn dispatch_on<K: Kernel>(path: Path, kernel: K) -> K::Output {
    match path {
        #[cfg(target_arch = "aarch64")]
        Path::Portable => kernel.run::<super::Fused>(),
        #[cfg(not(target_arch = "aarch64"))]
        Path::Portable => kernel.run::<super::Plain>(),
        // SAFETY: only this module makes a `Path` and hands it out: `best` where the machine has AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { with_avx2(kernel) },
        // SAFETY: as above, where the machine has AVX2, FMA and the three parts of AVX-512.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => unsafe { with_avx512(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::Fused>()
}
