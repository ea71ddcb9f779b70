//! The logits of one model state, in id order, in the format that the model gives them.

/// Logits in the order of ids, one for each row of the model; borrowed as they are, never copied as a whole.
#[derive(Clone, Copy, Debug)]
pub enum Logits<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The bits of bfloat16.
    Bf16(&'a [u16]),
    /// The bits of IEEE half precision.
    F16(&'a [u16]),
}

impl Logits<'_> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(rows) => rows.len(),
            Self::Bf16(rows) | Self::F16(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The logit of a row, exactly; `None` where there is no such row.
    pub fn get(&self, row: usize) -> Option<f32> {
        match self {
            Self::F32(rows) => rows.get(row).copied(),
            Self::Bf16(rows) => rows.get(row).copied().map(Bf16::to_f32),
            Self::F16(rows) => rows.get(row).copied().map(F16::to_f32),
        }
    }
}

/// How a number is written.
pub(super) trait Format {
    type Raw: Copy;
    /// Minus infinity: the logit of what cannot happen.
    const NEVER: Self::Raw;
    /// Exact, without a branch.
    fn to_f32(raw: Self::Raw) -> f32;
}

pub(super) struct F32;
pub(super) struct Bf16;
pub(super) struct F16;

impl Format for F32 {
    type Raw = f32;
    const NEVER: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn to_f32(raw: f32) -> f32 {
        raw
    }
}

impl Format for Bf16 {
    type Raw = u16;
    const NEVER: u16 = 0xff80;

    #[inline(always)]
    fn to_f32(raw: u16) -> f32 {
        f32::from_bits(u32::from(raw) << 16)
    }
}

impl Format for F16 {
    type Raw = u16;
    const NEVER: u16 = 0xfc00;

    #[inline(always)]
    fn to_f32(raw: u16) -> f32 {
        // Ten bits of fraction become 23; the exponent's bias grows from 15 to 127.
        const BIAS: u32 = (127 - 15) << 23;
        const ONE: u32 = 1 << 23;
        let moved = u32::from(raw & 0x7fff) << 13;
        let sign = u32::from(raw & 0x8000) << 16;
        // An exponent of zero has no leading one: it is added with the bits and subtracted as a number, exactly.
        let small = f32::from_bits(moved + BIAS + ONE) - f32::from_bits(BIAS + ONE);
        // The largest exponent stays the largest.
        let large = moved + BIAS + if moved >= 31 << 23 { BIAS } else { 0 };
        f32::from_bits(sign | if moved < ONE { small.to_bits() } else { large })
    }
}
