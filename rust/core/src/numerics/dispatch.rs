//! Runs a kernel with the best instructions that this machine has.
//!
//! Wheels are built for the least x86-64, which has two lanes of f64 and no fused product. The one `unsafe` is the
//! promise that the machine has more, asked of it before. Measured on one busy core with AVX2, 128k rows of f32
//! (`examples/index_speed.rs`): MEASURED.

use super::{Fused, Kernel, Plain};

/// A set of instructions to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// What every machine of this architecture has.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Path {
    /// The best path of this machine.
    #[inline]
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Portable
    }

    /// Every path that this machine can take.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let best = Self::best();
        if best == Self::Portable { vec![best] } else { vec![Self::Portable, best] }
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
        Path::Portable => kernel.run::<Fused>(),
        #[cfg(not(target_arch = "aarch64"))]
        Path::Portable => kernel.run::<Plain>(),
        // SAFETY: `Path::best` alone makes this value, where the machine has AVX2 and FMA.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => unsafe { with_avx2(kernel) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Fused>()
}
